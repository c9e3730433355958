//! 13, 14 and 15: failure stays where it is, reports tell the truth, cost is bounded.

use std::collections::BTreeMap;

use crate::kit::{Repo, any, free, shared};

pub const DEAD: &str = "host \"dead\" address=\"127.0.0.1\" port=1 user=\"root\" { host-key \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPYao/ghrjf2j4aETmYpJyep+1AiIlzaHKPdjlnY4AvX\" }\n";

#[test]
fn g13_one_dead_host_stops_no_other() {
    let (one, two) = (shared("lab-1"), shared("lab-2"));
    let repo = Repo::new("g13-dead", &[&one, &two]);
    repo.write("hosts/dead.kdl", DEAD);
    repo.stack("one", "file \"/srv/ID/x\" content=\"x\"");
    assert_eq!(repo.run(&["plan"]).code, 3);
    let ran = repo.run(&["apply", "--yes", "--json"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let outcomes: Vec<String> = (0..3).map(|host| ran.outcome_on(host, "file:/srv/g13-dead/x")).collect();
    assert_eq!(outcomes, ["unreachable", "applied", "applied"]);
    assert_eq!(one.sh("cat /srv/g13-dead/x"), "x");
    let ran = repo.run(&["apply", "--yes", "--json", "--host", "dead"]);
    assert_eq!(ran.code, 1, "none done: {ran:?}");
    assert_eq!(repo.run(&["apply", "--yes", "--host", "lab-1"]).code, 0);
}

#[test]
fn g13_what_comes_after_a_failure_is_blocked() {
    let host = any();
    let repo = Repo::new("g13-after", &[&host]);
    let file = |name: &str| format!("file \"/srv/ID/{name}\" content=\"{name}\"");
    repo.stack("first", &format!("{}\nunit \"ID-a\" exec=\"/bin/false\"", file("first")));
    repo.stack("second", &format!("after \"first\"\n{}", file("second")));
    repo.stack("third", &format!("after \"second\"\n{}", file("third")));
    repo.stack("alone", &file("alone"));
    let ran = repo.fail();
    let outcomes =
        ["first", "second", "third", "alone"].map(|name| ran.outcome(&format!("file:/srv/g13-after/{name}")));
    assert_eq!(outcomes, ["rolled-back", "blocked", "blocked", "applied"], "{}", ran.out);
    assert_eq!(host.sh("ls /srv/g13-after"), "alone\n");
    // A refusal blocks as a failure does.
    host.sh("echo mine >/srv/g13-after/first");
    repo.stack("first", &file("first"));
    let ran = repo.fail();
    let outcomes =
        ["first", "second", "third", "alone"].map(|name| ran.outcome(&format!("file:/srv/g13-after/{name}")));
    assert_eq!(outcomes, ["blocked", "blocked", "blocked", "unchanged"], "{}", ran.out);
}

/// The numbers before words, as in `3 applied, 1 failed`.
fn counted(line: &str) -> BTreeMap<String, u64> {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).filter_map(|pair| Some((pair[1].to_string(), pair[0].parse().ok()?)));
    let known = ["unchanged", "applied", "failed", "rolled-back", "blocked", "unreachable", "held", "skipped"];
    pairs.filter(|(word, _)| known.contains(&word.as_str())).collect()
}

#[test]
fn g14_every_resource_ends_as_one_word_and_the_same_everywhere() {
    let host = any();
    let repo = Repo::new("g14", &[&host]);
    repo.write("hosts/dead.kdl", DEAD);
    repo.stack("good", "file \"/srv/ID/good\" content=\"good\"");
    repo.run(&["apply", "--yes"]);
    repo.stack("bad", "file \"/srv/ID/bad\" content=\"bad\"\nunit \"ID-a\" exec=\"/bin/false\"");
    repo.stack("later", "after \"bad\"\nfile \"/srv/ID/later\" content=\"later\"");
    host.sh("echo mine >/srv/g14/mine");
    repo.stack("taken", "file \"/srv/ID/mine\" content=\"ours\"");
    // It is rolled back, so a second run does just the same.
    let json = repo.run(&["apply", "--yes", "--json"]);
    let text = repo.run(&["apply", "--yes"]);
    assert_eq!((json.code, text.code), (1, 1), "{json:?}");
    let parsed = json.json();
    let expected = [("good", "unchanged"), ("bad", "rolled-back"), ("later", "blocked"), ("mine", "blocked")];
    for (name, word) in expected {
        assert_eq!(json.outcome_on(1, &format!("file:/srv/g14/{name}")), word, "{}", json.out);
        assert_eq!(json.outcome_on(0, &format!("file:/srv/g14/{name}")), "unreachable");
        let line =
            text.out.lines().find(|line| line.starts_with("    ") && line.ends_with(&format!("file /srv/g14/{name}")));
        let shown = line.map_or("unchanged", |line| line.split_whitespace().next().unwrap_or_default());
        assert_eq!(shown, word, "{}", text.out);
    }
    let total: BTreeMap<String, u64> = parsed["summary"]
        .as_object()
        .expect("a summary")
        .iter()
        .filter_map(|(word, number)| Some((word.clone(), number.as_u64()?)))
        .filter(|(_, number)| *number > 0)
        .collect();
    let last = text.out.lines().rev().find(|line| line.contains(" · ")).expect("a summary");
    assert_eq!(counted(last), total, "{}", text.out);
    assert_eq!(total.values().sum::<u64>(), 10, "five resources on two hosts, each once: {total:?}");
}

#[test]
fn g15_no_change_is_one_connection_and_one_exchange_however_many_resources() {
    let host = free();
    let repo = Repo::new("g15", &[&host]);
    let files = (0..300).map(|n| format!("file \"/srv/ID/{n}\" content=\"{n}\"\n")).collect::<Vec<_>>().concat();
    repo.stack("one", &format!("{files}unit \"ID-a\" exec=\"/usr/bin/sleep 9999\"\nsite \"ID.test\" {{ listen \"127.0.0.1:7301\"\nroot \"/srv/ID\" }}"));
    repo.apply();
    let sessions = |args: &[&str]| {
        let cursor = host.now();
        let ran = repo.run(args);
        assert_eq!(ran.code, 0, "{ran:?}");
        let entries = host.since(&cursor);
        let count = |what: &str| {
            // Cron has sessions, too.
            let ssh =
                entries.iter().filter(|entry| entry["SYSLOG_IDENTIFIER"].as_str().is_some_and(|by| by.contains("ssh")));
            ssh.filter(|entry| entry["MESSAGE"].as_str().is_some_and(|said| said.contains(what))).count()
        };
        (count("Accepted publickey"), count("session opened"), ran)
    };
    let (accepted, opened, ran) = sessions(&["plan", "-v"]);
    assert_eq!((accepted, opened), (1, 1), "{ran:?}");
    assert!(ran.err.contains("exchanges=1 changes=0"), "{}", ran.err);
    let (accepted, _, ran) = sessions(&["apply", "--yes", "-v"]);
    assert_eq!(accepted, 1, "an empty apply: {ran:?}");
    host.sh("echo x >/srv/g15/7");
    let (accepted, opened, ran) = sessions(&["plan", "-v"]);
    assert_eq!((accepted, opened), (1, 1), "with a change too");
    assert!(ran.err.contains("exchanges=2"), "{}", ran.err);
    let (accepted, _, _) = sessions(&["apply", "--yes"]);
    assert_eq!(accepted, 2, "the run's own, and the fresh one that confirms");
}
