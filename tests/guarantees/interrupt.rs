//! 13 and 14: runs that are stopped by whoever began them, or kept from beginning by another one.

use std::process::Command;
use std::time::Duration;

use crate::kit::{Host, Ran, Repo, any, finish};

const MINUTE: Duration = Duration::from_mins(1);

/// A stack that takes a while, and one that comes after it.
fn slow(name: &str, host: &Host) -> Repo {
    let repo = Repo::new(name, &[host]);
    repo.stack(
        "first",
        "file \"/srv/ID/first\" content=\"1\"\nunit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep 3\" }",
    );
    repo.stack("second", "after \"first\"\nfile \"/srv/ID/second\" content=\"2\"");
    repo
}

/// Interrupts a run, so many times, once the first stack of `slow` is at its start.
fn interrupt(repo: &Repo, host: &Host, id: &str, times: usize) -> Ran {
    let run = repo.begin(&["apply", "--yes", "--json", "--confirm", "3"]);
    host.until(&format!("systemctl show -P SubState {id}-a | grep -q start-pre"));
    for _ in 0..times {
        let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        std::thread::sleep(Duration::from_millis(300));
    }
    finish(run, MINUTE)
}

#[test]
fn g14_ctrl_c_ends_the_stack_in_hand_and_begins_no_other() {
    let host = any();
    let repo = slow("g14-once", &host);
    let ran = interrupt(&repo, &host, "g14-once", 1);
    assert_eq!(ran.code, 1, "{ran:?}");
    let outcomes = ["unit:g14-once-a", "file:/srv/g14-once/first", "file:/srv/g14-once/second"];
    assert_eq!(outcomes.map(|id| ran.outcome(id)), ["applied", "applied", "skipped"], "{}", ran.out);
    assert!(ran.err.contains("stopping"), "{}", ran.err);
    assert_eq!(
        host.sh("ls /srv/g14-once; ls /var/lib/reconcile/g14-once/run; systemctl is-active g14-once-a"),
        "first\nactive\n"
    );
    assert_eq!(repo.plan().stack_names(), ["second"]);
    repo.apply();
    repo.is_settled();
}

#[test]
fn g14_ctrl_c_twice_stops_and_the_host_goes_back() {
    let host = any();
    let repo = slow("g14-twice", &host);
    let ran = interrupt(&repo, &host, "g14-twice", 2);
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.err.contains("go back by themselves"), "{}", ran.err);
    host.until("[ ! -e /srv/g14-twice ] && [ -z \"$(ls /var/lib/reconcile/g14-twice/run)\" ]");
    assert_eq!(host.sh("systemctl show -P ActiveState g14-twice-a"), "inactive\n");
    repo.apply();
    repo.is_settled();
}

#[test]
fn g12_what_another_run_keeps_from_beginning_is_skipped() {
    let host = any();
    let repo = Repo::new("g12-held", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"1\"");
    repo.apply();
    repo.stack("one", "file \"/srv/ID/x\" content=\"2\"");
    let mut holder = host.begin("flock /var/lib/reconcile/g12-held/lock sleep 60");
    host.until("! flock -n /var/lib/reconcile/g12-held/lock true");
    let ran = repo.run(&["apply", "--yes", "--json", "--lock-wait", "0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["skipped"], "{}", ran.out);
    let ran = repo.run(&["apply", "--yes", "--lock-wait", "0"]);
    assert_eq!((ran.code, format!("{}{}", ran.out, ran.err).matches("holds the lock").count()), (1, 1), "{ran:?}");
    host.sh(
        "kill $(pgrep -f 'flock /var/lib/reconcile/g12-held/lock sleep') $(pgrep -fx 'sleep 60') 2>/dev/null; true",
    );
    holder.wait().expect("it ends");
    repo.apply();
}
