//! 12, 13 and 14: waves over hosts, stacks that are held, and what is to be stopped.

use crate::kit::{Host, Repo, any, shared};

const ROLLOUT: &str = "repo \"ID\" { rollout { canary \"lab-1\"; batch 1 } }\n";

/// A unit that fails on one host, or on none.
fn unit(failing: &str) -> String {
    format!("unit \"ID-a\" exec=\"{{{{ '/bin/false' if host.name == '{failing}' else '/usr/bin/sleep 9999' }}}}\"")
}

#[test]
fn g14_a_canary_that_fails_has_the_others_skipped_and_what_is_held_stays_held() {
    let hosts = ["lab-1", "lab-2", "lab-3"].map(shared);
    let repo = Repo::new("g14-waves", &[&hosts[0], &hosts[1], &hosts[2]]);
    repo.write("hosts/repo.kdl", ROLLOUT.replace("ID", &repo.id));
    repo.stack("web", &unit("lab-1"));
    let held = repo.run(&["hold", "web", "--host", "lab-2", "--why", "audit"]);
    assert_eq!(held.code, 0, "{held:?}");
    let plan = repo.plan().0;
    assert_eq!(plan["waves"], serde_json::json!([["lab-1"], ["lab-3"]]), "{plan:#}");
    let ran = repo.fail();
    let outcomes = |ran: &crate::kit::Ran| [0, 1, 2].map(|host| ran.outcome_on(host, "unit:g14-waves-a"));
    assert_eq!(outcomes(&ran), ["rolled-back", "held", "skipped"], "{}", ran.out);
    assert_eq!(ran.code, 3, "a host with nothing but what is held went well");
    let none = |host: &Host| host.try_sh("systemctl cat g14-waves-a").0;
    assert!(!hosts.iter().any(none), "nothing of it is anywhere");
    // Another control node, with a sound version: the canary first, and what is held is still held.
    let other = repo.copy();
    other.stack("web", &unit("nowhere"));
    assert_eq!(outcomes(&other.apply()), ["applied", "held", "applied"]);
    let released = other.run(&["release", "web", "--host", "lab-2"]);
    assert_eq!(released.code, 0, "{released:?}");
    assert_eq!(outcomes(&other.apply()), ["unchanged", "applied", "unchanged"]);
    other.is_settled();
    // The hosts are containers of one machine, and have one clock for the time since boot.
    let started = |host: &Host| -> u64 {
        host.sh("systemctl show -P ActiveEnterTimestampMonotonic g14-waves-a").trim().parse().expect("a number")
    };
    let [first, second, third] = [&hosts[0], &hosts[1], &hosts[2]].map(started);
    assert!(first < third && third < second, "{first} {third} {second}");
}

#[test]
fn g07_the_canary_goes_back_when_a_later_host_fails() {
    let hosts = ["lab-1", "lab-2", "lab-3"].map(shared);
    let repo = Repo::new("g07-rollout", &[&hosts[0], &hosts[1], &hosts[2]]);
    let rollout = |rest: &str| {
        format!("repo \"g07-rollout\" {{ rollout {{ canary \"lab-1\"; batch 1; on-failure \"revert\"; {rest} }} }}\n")
    };
    repo.write("hosts/repo.kdl", rollout(""));
    // Two stacks: on the host that fails, one of them goes well.
    let version = |value: &str, failing: &str| {
        format!(
            "file \"/srv/ID/v\" content=\"{value}\" mode=\"0640\" {{ on-change restart=\"ID-a\" }}
            unit \"ID-a\" exec=\"/usr/bin/sleep 9999\" {{ env A=\"{value}\"
                health command=\"{{{{ '/bin/false' if host.name == '{failing}' else '/bin/true' }}}}\" within=\"1s\" }}"
        )
    };
    repo.stack("web", &version("one", "nowhere"));
    repo.stack("aside", "unit \"ID-b\" exec=\"/usr/bin/sleep 9998\" enabled=#false");
    repo.apply();
    let picture = |host: &Host| {
        host.picture(
            "/srv/g07-rollout /etc/systemd/system/g07-rollout* /etc/systemd/system/*.wants/g07-rollout* \
             /var/lib/reconcile/g07-rollout/ledger",
            "g07-rollout-a g07-rollout-b g07-rollout-c",
        )
    };
    let before: Vec<_> = hosts.iter().map(picture).collect();
    repo.stack("web", &version("two", "lab-2"));
    // Another unit goes, and one comes.
    repo.stack("aside", "unit \"ID-c\" exec=\"/usr/bin/sleep 9997\"");
    let ran = repo.fail();
    let outcomes = |id: &str| [0, 1, 2].map(|host| ran.outcome_on(host, id));
    assert_eq!(outcomes("unit:g07-rollout-a"), ["rolled-back", "rolled-back", "skipped"], "{}", ran.out);
    assert_eq!(outcomes("unit:g07-rollout-c"), ["rolled-back", "rolled-back", "skipped"], "{}", ran.out);
    assert_eq!(ran.code, 4, "no host is done, and all was brought back: {}", ran.out);
    for (host, before) in hosts.iter().zip(&before) {
        picture(host).is_as(before, &host.name);
        let process = "cat /proc/$(systemctl show -P MainPID g07-rollout-a)/environ | tr '\\0' '\\n' | grep ^A=";
        assert_eq!(host.sh(process), "A=one\n", "{}: it runs with what it ran with", host.name);
        assert_eq!(host.sh("ls /var/lib/reconcile/g07-rollout/run"), "", "{}", host.name);
    }
    // The control side dies while the canary waits for the others: it stays done, and the next run clears up.
    repo.write("hosts/repo.kdl", rollout("pause \"60s\""));
    repo.stack("web", &version("three", "nowhere"));
    let mut run = repo.begin(&["apply", "--yes"]);
    hosts[0].until("[ -e /var/lib/reconcile/g07-rollout/run/*/kept ]");
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    let plan = repo.plan();
    assert_eq!(plan.0["waves"], serde_json::json!([["lab-2"], ["lab-3"]]), "{:#}", plan.0);
    assert!(!repo.run(&["plan"]).out.contains("broke off"), "nothing is half done");
    repo.write("hosts/repo.kdl", rollout(""));
    repo.apply();
    repo.stack("web", &version("four", "nowhere"));
    repo.apply();
    repo.is_settled();
    let left = "ls /var/lib/reconcile/g07-rollout/run; ls -A /srv/g07-rollout";
    assert_eq!(hosts[0].sh(left), "v\n", "what was kept is cleared away");
}

#[test]
fn g12_a_hold_waits_for_the_lock_and_keeps_what_was_stopped_stopped() {
    let host = any();
    let repo = Repo::new("g12-hold", &[&host]);
    repo.stack("web", &unit("nowhere"));
    repo.apply();
    host.sh("systemctl stop g12-hold-a");
    let cut = host.begin("exec 9>/var/lib/reconcile/lock; flock 9; touch /srv/g12-hold-locked; sleep 4");
    host.until("[ -e /srv/g12-hold-locked ]");
    let held = repo.run(&["hold", "web", "--lock-wait", "0"]);
    assert!(held.code == 1 && held.out.contains("another run holds the lock"), "{held:?}");
    let held = repo.run(&["hold", "web", "--lock-wait", "120", "--why", "it eats memory"]);
    assert_eq!(held.code, 0, "{held:?}");
    drop(cut);
    let text = repo.run(&["plan"]);
    assert!(text.out.contains(": it eats memory") && text.out.contains("start g12-hold-a"), "{}", text.out);
    assert_eq!(repo.apply().outcome("unit:g12-hold-a"), "held");
    assert_eq!(host.try_sh("systemctl is-active g12-hold-a").1.trim(), "inactive");
    // A run dies, another recovers: the hold is none of a run's things.
    assert_eq!(repo.run(&["release", "web"]).code, 0);
    assert_eq!(repo.apply().outcome("unit:g12-hold-a"), "applied");
    assert_eq!(host.sh("systemctl is-active g12-hold-a; ls /var/lib/reconcile/g12-hold/hold"), "active\n");
}

#[test]
fn g04_what_is_to_be_stopped_stays_stopped() {
    let host = any();
    let repo = Repo::new("g04-stopped", &[&host]);
    repo.stack("web", &unit("nowhere"));
    repo.apply();
    repo.stack("web", &format!("{} running=#false", unit("nowhere")));
    let text = repo.run(&["plan"]);
    assert!(text.out.contains("stop g04-stopped-a") && text.out.contains("disable g04-stopped-a"), "{}", text.out);
    repo.apply();
    repo.is_settled();
    let state = || host.sh("systemctl is-active g04-stopped-a || :; systemctl is-enabled g04-stopped-a || :");
    assert_eq!(state(), "inactive\ndisabled\n");
    host.sh("systemctl start g04-stopped-a");
    assert!(repo.run(&["plan"]).out.contains("stop g04-stopped-a"));
    repo.apply();
    assert_eq!(state(), "inactive\ndisabled\n");
}
