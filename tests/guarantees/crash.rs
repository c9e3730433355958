//! 5, 6, 8 and 12: ends that die, links that break, runs that meet.

use std::thread::sleep;
use std::time::{Duration, Instant};

use reconcile::base::digest::Digest;

use crate::kit::stop::{How, Stop};
use crate::kit::{Host, Repo, any, finish, free, lab};

/// Far longer than anything takes: on a machine with much else to do as well.
const LONG: Duration = Duration::from_mins(5);

/// Kills whatever holds the lock of a repository on the host: our program there, with all of its shells.
pub fn kill_there(id: &str) -> String {
    format!(
        "for fd in $(find /proc/[0-9]*/fd -lname /var/lib/reconcile/{id}/lock 2>/dev/null); do
            pid=${{fd#/proc/}}; kill -9 ${{pid%%/*}} 2>/dev/null; done; true"
    )
}

/// Applies until nothing is to be done, as the loop would; two runs must be enough. The notes of the first one.
fn repair(repo: &Repo) -> String {
    let ran = repo.run(&["apply", "--yes", "--json", "--lock-wait", "30"]);
    if !repo.plan().is_empty() {
        repo.run(&["apply", "--yes", "--json", "--lock-wait", "30"]);
        repo.is_settled();
    }
    ran.json()["hosts"][0]["notes"].to_string()
}

fn environment(host: &Host, unit: &str) -> String {
    host.sh(&format!("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {unit})/environ | grep ^A="))
}

#[test]
fn g05_a_restart_that_was_not_reached_is_owed() {
    let host = any();
    let repo = Repo::new("g05", &[&host]);
    // The reload of the first unit takes its time, and the restart of the second one comes after it.
    let body = |value: &str| {
        format!(
            "file \"/srv/ID/x\" content=\"{value}\" {{ on-change reload=\"ID-slow\" }}
            unit \"ID-slow\" {{ exec \"/usr/bin/sleep 9999\"\nexec-reload \"/usr/bin/sleep 5\" }}
            unit \"ID-b\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{value}\" }}"
        )
    };
    repo.stack("one", &body("one"));
    repo.apply();
    for lost in [false, true] {
        let value = if lost { "three" } else { "two" };
        repo.stack("one", &body(value));
        let run = repo.begin(&["apply", "--yes", "--json"]);
        // In one go, for the reload is over soon.
        host.sh(&format!(
            "until grep -q {value} /srv/g05/x && systemctl show -P ActiveState g05-slow | grep -q reloading; do sleep 0.02; done\n{}",
            kill_there("g05")
        ));
        let ran = finish(run, LONG);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_ne!(environment(&host, "g05-b"), format!("A={value}\n"), "the restart was not reached");
        if lost {
            // Without the journal of the dead run, what was switched stays. The debt is known all the same.
            host.sh("cd /var/lib/reconcile/g05/run; rm -rf $(cat */stages) *");
            let plan = repo.plan();
            assert!(plan.effects().contains("restart g05-b.service"), "{:#}", plan.0["hosts"]);
            assert_eq!(plan.change("unit:g05-b")["cause"], "owed", "{:#}", plan.0["hosts"]);
        } else {
            assert!(!repo.plan().is_empty());
        }
        // The reload goes quickly now.
        repo.stack("one", &body(value).replace("sleep 5", "true"));
        let notes = repair(&repo);
        assert_eq!(environment(&host, "g05-b"), format!("A={value}\n"), "lost journal: {lost}");
        // What became of the dead run is told.
        assert_eq!(notes.contains("had died half-way: one has been rolled back"), !lost, "{notes}");
        repo.stack("one", &body(value));
        repo.apply();
    }
}

#[test]
fn g05_containers_owe_a_restart_too() {
    let host = any();
    let repo = Repo::new("g05-docker", &[&host]);
    let compose = "services:
  web:
    image: lab/busybox:1
    stop_grace_period: 0s
    command: [sh, -c, \"cp /conf /runs-with; exec sleep 1000000\"]
    volumes: [\"./conf:/conf:ro\"]
";
    repo.write("stacks/one/compose.yaml", compose);
    let wants = |value: &str, reload: &str, health: &str| {
        repo.write("stacks/one/conf", value);
        repo.stack(
            "one",
            &format!(
                "file \"/srv/ID/x\" content=\"{value}\" {{ on-change reload=\"ID-slow\" }}
                unit \"ID-slow\" {{ exec \"/usr/bin/sleep 9999\"\nexec-reload \"/usr/bin/{reload}\" }}
                compose \"ID-app\" {{\nfile \"compose.yaml\"\n{health} }}"
            ),
        );
    };
    wants("one", "true", "");
    repo.apply();
    let runs_with = || host.sh("docker exec g05-docker-app-web-1 cat /runs-with");
    let state = || host.sh("docker inspect -f '{{.State.Status}}' g05-docker-app-web-1");
    assert_eq!(runs_with(), "one");

    for (value, hand) in [("two", ""), ("three", "up -d --force-recreate")] {
        // The reload takes its time, the restart comes after it, and the journal is lost.
        wants(value, "sleep 5", "");
        let run = repo.begin(&["apply", "--yes", "--json"]);
        host.sh(&format!(
            "until grep -q {value} /srv/g05-docker-app/conf && systemctl show -P ActiveState g05-docker-slow | grep -q reloading; do sleep 0.02; done\n{}",
            kill_there("g05-docker")
        ));
        assert_eq!(finish(run, LONG).code, 1);
        assert_ne!(runs_with(), value, "the restart was not reached");
        host.sh("cd /var/lib/reconcile/g05-docker/run; rm -rf $(cat */stages) *");
        let restart = "restart web of g05-docker-app";
        let plan = repo.plan();
        let owes = plan.change("compose:g05-docker-app");
        assert_eq!(owes["cause"], "owed", "{:#}", plan.0["hosts"]);
        assert!(owes["effects"].to_string().contains(restart), "{owes:#}");
        // Whoever restarts it pays, as does a container in its place.
        if !hand.is_empty() {
            host.sh(&format!("cd /srv/g05-docker-app && docker compose -p g05-docker-app {hand} 2>&1"));
            assert!(!repo.plan().0.to_string().contains(restart), "{hand}");
        }
        wants(value, "true", "");
        repair(&repo);
        assert_eq!(runs_with(), value);
    }

    // What is paused goes on with what is there by then; where that fails, it is paused again.
    host.sh("docker pause g05-docker-app-web-1");
    wants("five", "true", "");
    repo.apply();
    assert_eq!((runs_with().as_str(), state().trim()), ("five", "running"));
    repo.is_settled();
    host.sh("docker pause g05-docker-app-web-1");
    wants("six", "true", "health command=\"/bin/false\" within=\"1s\"");
    let ran = repo.run(&["apply", "--yes", "--json"]);
    assert_eq!((ran.code, state().trim()), (4, "paused"), "{ran:?}");
    assert_eq!(host.sh("cat /srv/g05-docker-app/conf"), "five");
    host.sh("docker unpause g05-docker-app-web-1");
}

#[test]
fn g06_whichever_end_dies_and_whenever_all_files_are_whole() {
    let host = any();
    let repo = Repo::new("g06", &[&host]);
    let body = |word: &str| {
        let file = |n: usize| {
            format!("file \"/srv/ID/{}/{n}\" content=\"{word} {}\" mode=\"06{}0\"\n", n % 3, word.repeat(900), n % 8)
        };
        let files: String = (0..60).map(file).collect();
        format!("{files}unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}")
    };
    repo.stack("one", &body("first"));
    repo.apply();
    // Each of the files is as one of these words wants it.
    let whole = |words: &[&str], when: &str| {
        let sum = |word: &&str| Digest::of(format!("{word} {}", word.repeat(900)).as_bytes()).to_string();
        let (sums, mut files): (Vec<String>, _) = (words.iter().map(sum).collect(), host.files("/srv/g06"));
        files.retain(|path, _| !path.contains("/.reconcile-"));
        assert_eq!(files.len(), 1 + 3 + 60, "{when}: {files:#?}");
        for n in 0..60 {
            let is = &files[&format!("/srv/g06/{}/{n}", n % 3)];
            let wanted = |sum: &String| *is == format!("f 6{}0 root:root {sum}", n % 8);
            assert!(sums.iter().any(wanted), "{when}: {n} is {is}");
        }
    };
    let words = ["again", "first"];
    for (round, wait) in [0_u64, 20, 45, 80, 150, 400].into_iter().enumerate() {
        repo.stack("one", &body(words[round % 2]));
        let here = round % 3 == 2;
        // Without its control side, the host goes back after three seconds.
        let mut run = repo.begin(&["apply", "--yes", "--json", "--confirm", "3"]);
        let begun = "[ -n \"$(ls /var/lib/reconcile/g06/run 2>/dev/null)\" ]";
        let when = format!("{} after {wait} ms", if here { "this end" } else { "the host's end" });
        if here {
            host.until(begun);
            sleep(Duration::from_millis(wait));
            run.kill().expect("it can be killed");
        } else {
            host.sh(&format!("until {begun}; do sleep 0.005; done; sleep 0.{wait:03}\n{}", kill_there("g06")));
        }
        finish(run, LONG);
        whole(&words, &when);
        repair(&repo);
        whole(&words[round % 2..=round % 2], &when);
        assert_eq!(host.sh("ls -A /var/lib/reconcile/g06/run"), "", "{when}");
        assert_eq!(environment(&host, "g06-a"), format!("A={}\n", words[round % 2]), "{when}");
        // Other tests stage beside their units on this host too, for a moment: what stays is a leak.
        host.until("[ -z \"$(find /srv/g06* /etc -xdev -name '.reconcile-*')\" ]");
    }
}

#[test]
fn g08_a_host_that_cannot_be_reached_any_more_goes_back() {
    let host = free();
    let repo = Repo::new("g08", &[&host]);
    // Its start leaves time to cut the link after the switch.
    let body = |word: &str, wait: u8| {
        format!(
            "file \"/srv/ID/{word}\" content=\"there or not\"
            file \"/srv/ID/changed\" content=\"{word}\" mode=\"{}\" owner=\"www-data\"
            unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}
            unit \"ID-{word}\" {{ exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep {wait}\" }}",
            if word == "old" { "0640" } else { "0604" }
        )
    };
    repo.stack("one", &body("old", 0));
    repo.apply();
    let look = || {
        host.picture(
            "/srv/g08 /etc/systemd/system/g08-* /etc/systemd/system/*.wants/g08-* /var/lib/reconcile/g08/ledger",
            "g08-a g08-old g08-new",
        )
    };
    let before = look();
    repo.stack("one", &body("new", 8));
    let changes = repo.plan().changes().count();
    let run = repo.begin(&["apply", "--yes", "--json", "--confirm", "3"]);
    host.until("[ -e /srv/g08/new ] && systemctl show -P SubState g08-new | grep -q start-pre");
    lab(&["cut", &host.name]);
    let now = host.sh("cat /srv/g08/changed; ls /srv/g08/old 2>&1 | grep -c cannot");
    assert_eq!(now, "new1\n", "it was switched");
    host.until("[ ! -e /srv/g08/new ] && [ -z \"$(ls /var/lib/reconcile/g08/run)\" ]");
    lab(&["mend", &host.name]);
    look().is_as(&before, "created, changed, removed, and what runs");
    assert_eq!(environment(&host, "g08-a"), "A=old\n", "it runs with what the file says");
    let ran = finish(run, LONG);
    ran.is_truthful();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    assert_eq!(repo.plan().changes().count(), changes, "the next plan has all changes again");
    repo.stack("one", &body("new", 0));
    repo.apply_with(&["--confirm", "10"]);
    repo.is_settled();
}

#[test]
fn g12_one_repository_writes_to_a_host_at_a_time() {
    let host = free();
    let (slow, other) = (Repo::new("g12-slow", &[&host]), Repo::new("g12-other", &[&host]));
    slow.stack("one", "unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep 3\" }");
    other.stack("one", "file \"/srv/ID/x\" content=\"x\"");
    let run = slow.begin(&["apply", "--yes", "--json"]);
    host.until("[ \"$(systemctl show -P SubState g12-slow-a)\" = start-pre ]");
    let ran = other.run(&["apply", "--yes", "--json", "--lock-wait", "0"]);
    assert!(ran.code == 1 && ran.out.contains("(repository g12-slow)"), "{ran:?}");
    other.apply();
    assert_eq!(finish(run, LONG).code, 0);
}

#[test]
fn g12_a_link_that_is_cut_in_the_middle_of_what_it_brings_frees_the_lock() {
    let host = free();
    let repo = Repo::new("g12-cut", &[&host]);
    host.sh("find / -xdev -name '.reconcile-*' -prune -exec rm -rf {} +");
    // More than fits into all that lies between.
    repo.write("stacks/one/big", vec![b'x'; 6 << 20]);
    repo.stack("one", "file \"/srv/ID/big\" source=\"big\"\nfile \"/srv/ID/x\" content=\"x\"");
    let stop = Stop::on(&host);
    stop.at(1, "tar -x*", How::Hold);
    let run = repo.begin(&["apply", "--yes", "--json"]);
    stop.reached();
    lab(&["cut", &host.name]);
    stop.release();
    let begun = Instant::now();
    host.until("flock -n /var/lib/reconcile/lock true && flock -n /var/lib/reconcile/g12-cut/lock true");
    let took = begun.elapsed();
    let left = host.sh("ls /var/lib/reconcile/g12-cut/run; find / -xdev -name '.reconcile-*' -o -path /srv/g12-cut");
    lab(&["mend", &host.name]);
    assert_eq!(left, "", "nothing is left of what had come");
    assert!(took < Duration::from_mins(1), "{took:?}");
    let ran = finish(run, LONG);
    ran.is_truthful();
    assert_eq!((ran.code, ran.outcome("file:/srv/g12-cut/x")), (1, "failed".into()), "{ran:?}");
    drop(stop);
    repo.apply();
    repo.is_settled();
}

/// `RECONCILE_RACES` says how many rounds there are.
#[test]
fn g12_two_runs_at_once_are_one_after_the_other() {
    let host = free();
    let repo = Repo::new("g12", &[&host]);
    let other = repo.copy();
    let body =
        |word: &str| (0..8).map(|n| format!("file \"/srv/ID/{n}\" content=\"{word}\"\n")).collect::<Vec<_>>().concat();
    let rounds =
        std::env::var("RECONCILE_RACES").map_or(12, |rounds| rounds.parse().expect("RECONCILE_RACES is a number"));
    for round in 0..rounds {
        repo.stack("one", &body(&format!("a{round}")));
        other.stack("one", &body(&format!("b{round}")));
        let wait = if round % 2 == 0 { "60" } else { "0" };
        let args = ["apply", "--yes", "--json", "--lock-wait", wait];
        let runs = [repo.begin(&args), other.begin(&args)];
        let ran = runs.map(|run| finish(run, LONG));
        let codes: Vec<i32> = ran.iter().map(|ran| ran.code).collect();
        assert!(codes.contains(&0) && codes.iter().all(|code| [0, 1].contains(code)), "{ran:?}");
        for ran in ran.iter().filter(|ran| ran.code == 1) {
            let why = ["locked", "holds the lock", "as it was planned"];
            assert!(why.iter().any(|why| ran.out.contains(why)), "{}", ran.out);
        }
        let kinds = host.sh("cd /srv/g12; for file in *; do cat $file; echo; done | sort -u | wc -l");
        assert_eq!(kinds, "1\n", "round {round}: some of one and some of the other");
        assert_eq!(host.sh("ls -A /var/lib/reconcile/g12/run"), "");
    }
    // That they met is luck. So one stands still in the middle of its steps, and nothing moves until it goes on.
    let stop = Stop::on(&host);
    for wait in ["0", "60"] {
        repo.stack("one", &body(&format!("first {wait}")));
        other.stack("one", &body(&format!("second {wait}")));
        stop.at(2, "do_step*", How::Hold);
        let first = repo.begin(&["apply", "--yes", "--json", "--confirm", "0"]);
        stop.reached();
        let look = || host.files("/srv/g12 /var/lib/reconcile/g12/run /var/lib/reconcile/g12/ledger");
        let before = look();
        let second = other.begin(&["apply", "--yes", "--json", "--confirm", "0", "--lock-wait", wait]);
        sleep(Duration::from_secs(3));
        assert!(look() == before, "waiting {wait}: {:#?}", look());
        stop.release();
        let (first, second) = (finish(first, LONG), finish(second, LONG));
        assert_eq!(first.code, 0, "waiting {wait}: {first:?}");
        assert_eq!(second.code, i32::from(wait == "0"), "waiting {wait}: {second:?}");
        let kinds = host.sh("cd /srv/g12; for file in *; do cat $file; echo; done | sort -u");
        assert_eq!(kinds, if wait == "0" { "first 0\n" } else { "second 60\n" });
    }
    repair(&repo);
}
