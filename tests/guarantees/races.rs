//! 1 and 9: somebody does something on the host by hand while a plan is read, or while it is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kit::stop::{How, Stop};
use crate::kit::{Host, Ran, Repo, any, finish, free};

const LONG: Duration = Duration::from_mins(5);

/// What is changed by a run, each in a stack of its own so that each can fail by itself: what it is called, what is
/// there before, and what is wanted then.
const CHANGED: [(&str, &str, &str); 6] = [
    ("content", "file \"/srv/ID/content\" content=\"one\"", "file \"/srv/ID/content\" content=\"two\""),
    ("mode", "file \"/srv/ID/mode\" content=\"one\"", "file \"/srv/ID/mode\" content=\"two\""),
    ("new", "directory \"/srv/ID\"", "file \"/srv/ID/new\" content=\"two\"\ndirectory \"/srv/ID\""),
    ("gone", "file \"/srv/ID/gone\" content=\"one\"", "file \"/srv/ID/gone\" content=\"two\""),
    ("link", "file \"/srv/ID/link\" link=\"/srv/one\"", "file \"/srv/ID/link\" link=\"/srv/two\""),
    ("unwanted", "file \"/srv/ID/unwanted\" content=\"one\"", ""),
];

/// What a person does to each of them.
const BY_HAND: [(&str, &str); 6] = [
    ("content", "touch -r content /run/time; printf 2nd >content; touch -r /run/time content"),
    ("mode", "chmod 600 mode"),
    ("new", "echo mine >new"),
    ("gone", "rm gone"),
    ("link", "ln -sfn /srv/mine link"),
    ("unwanted", "echo mine >unwanted"),
];

fn stacks(repo: &Repo, wanted: bool) {
    for (name, before, after) in CHANGED {
        let keep = format!("file \"/srv/ID-{name}\" content=\"{name}\"");
        repo.stack(name, &format!("after \"slow\"\n{keep}\n{}", if wanted { after } else { before }));
    }
}

/// A stack that takes so many seconds when it changes.
fn slow(repo: &Repo, word: &str, seconds: u8) {
    repo.stack(
        "slow",
        &format!(
            "unit \"ID-slow\" {{ exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep {seconds}\"\nenv A=\"{word}\" }}"
        ),
    );
}

/// All files but those that a run has staged.
fn files(host: &Host, id: &str) -> BTreeMap<String, String> {
    let mut files = host.files(&format!("/srv/{id} /srv/{id}-*"));
    files.retain(|path, _| !path.contains("/.reconcile-"));
    files
}

#[test]
fn g01_what_is_edited_after_the_plan_is_not_walked_over() {
    let host = any();
    let id = "g01-edited";
    let repo = Repo::new(id, &[&host]);
    slow(&repo, "one", 0);
    for (name, deed) in BY_HAND.into_iter().chain([("unit", "systemctl stop g01-edited-slow")]) {
        stacks(&repo, false);
        repo.apply();
        stacks(&repo, true);
        let digest = repo.plan().digest();
        host.sh(&format!("cd /srv/{id}; {deed}"));
        let by_hand = files(&host, id);
        let ran = repo.run(&["apply", "--json", "--expect", &digest]);
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
        assert!(files(&host, id) == by_hand, "{name}: {:#?}", files(&host, id));
        host.sh(&format!("rm -f /srv/{id}/new"));
    }
}

#[test]
fn g01_what_is_edited_during_an_apply_is_not_walked_over() {
    let host = any();
    let id = "g01-during";
    let repo = Repo::new(id, &[&host]);
    slow(&repo, "one", 0);
    stacks(&repo, false);
    repo.apply();
    slow(&repo, "two", 2);
    stacks(&repo, true);
    let run = repo.begin(&["apply", "--yes", "--json"]);
    let all: String = BY_HAND.iter().map(|(_, deed)| format!("{deed}\n")).collect();
    host.until("systemctl show -P SubState g01-during-slow | grep -q start-pre");
    host.sh(&format!("cd /srv/{id}\n{all}"));
    let by_hand = files(&host, id);
    let ran = finish(run, LONG);
    ran.is_truthful();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(files(&host, id) == by_hand, "{:#?}", files(&host, id));
    assert_eq!(ran.outcome("unit:g01-during-slow"), "applied", "what nobody touched is done: {}", ran.out);
    for (name, ..) in CHANGED {
        let outcome = ran.outcome(&format!("file:/srv/{id}/{name}"));
        assert!(["failed", "rolled-back"].contains(&outcome.as_str()), "{name} is {outcome}: {}", ran.out);
    }
    // Once it was seen, it is decided anew: what is ours is put right, what is not is refused.
    let plan = repo.plan();
    assert_ne!(plan.refusal(&format!("file:/srv/{id}/new")), "", "{:#}", plan.0["hosts"]);
    host.sh(&format!("rm /srv/{id}/new"));
    repo.apply();
    repo.is_settled();
}

/// 12: what another run of the same stack has claimed meanwhile is in the ledger and nowhere else: none of the paths of this
/// plan has moved.
#[test]
fn g12_a_plan_that_does_not_know_what_is_claimed_by_now_is_not_applied() {
    let host = free();
    let id = "g12-claims";
    let (late, soon) = (Repo::new(id, &[&host]), Repo::new(id, &[&host]));
    let body = |names: &[&str]| {
        names.iter().map(|name| format!("file \"/srv/ID-{name}\" content=\"{name}\"\n")).collect::<String>()
    };
    let stop = Stop::on(&host);
    // There is no ledger yet when the first plan is made, and one when the second is.
    for (wanted, claimed) in [(&["x"][..], &["y"][..]), (&["x", "y"], &["y", "z"])] {
        late.stack("one", &body(wanted));
        soon.stack("one", &body(claimed));
        // Its plan is made, and it does not have the lock.
        stop.at(1, "umask 077", How::Hold);
        let run = late.begin(&["apply", "--yes", "--json", "--confirm", "0"]);
        stop.reached();
        soon.apply();
        let look = || host.files(&format!("/srv/{id}-* /var/lib/reconcile/{id}/ledger"));
        let before = look();
        stop.release();
        let ran = finish(run, LONG);
        ran.is_truthful();
        assert_eq!((ran.code, ran.outcome(&format!("file:/srv/{id}-x"))), (1, "failed".into()), "{}", ran.out);
        assert!(ran.out.contains("the ledger of one is no longer as it was planned"), "{}", ran.out);
        assert!(look() == before, "{wanted:?}: {:#?}", look());
        soon.is_settled();
    }
    // The next plan knows it.
    let plan = late.plan();
    assert_eq!(plan.change(&format!("file:/srv/{id}-z"))["action"], "remove", "{:#}", plan.0["hosts"]);
    late.apply();
    late.is_settled();
}

/// Between the last look at the paths and their switch, a unit of the same stack is stopped: so what is done by hand meanwhile
/// is done by its own `ExecStop`.
#[test]
fn g01_what_is_edited_right_before_the_switch_is_not_walked_over() {
    let host = any();
    let id = "g01-window";
    let repo = Repo::new(id, &[&host]);
    let stacks = |wanted: bool| {
        for (name, before, after) in CHANGED {
            let stays = format!("unit \"ID-{name}-stays\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{wanted}\" }}");
            let goes = format!(
                "unit \"ID-{name}-goes\" {{ exec \"/usr/bin/sleep 9999\"\nexec-stop \"/bin/sh /run/ID-{name}\" }}"
            );
            let changed = if wanted { after.to_string() } else { format!("{before}\n{goes}") };
            repo.stack(name, &format!("file \"/srv/ID-{name}\" content=\"{wanted}\"\n{stays}\n{changed}"));
        }
    };
    host.sh(&format!(
        "rm -f /run/{id}-*; for name in content mode new gone link unwanted; do : >/run/{id}-$name; done"
    ));
    stacks(false);
    repo.apply();
    let before = files(&host, id);
    for (_, deed) in BY_HAND {
        host.sh(&format!("cd /srv/{id}; {deed}"));
    }
    let by_hand = files(&host, id);
    host.sh(&format!("rm /srv/{id}/new"));
    repo.apply();
    assert!(files(&host, id) == before, "{:#?}", files(&host, id));
    for (name, deed) in BY_HAND {
        host.sh(&format!("echo 'cd /srv/{id}; {deed}' >/run/{id}-{name}"));
    }
    let runs = || BY_HAND.map(|(name, _)| host.invocation(&format!("{id}-{name}-stays")));
    let invocations = runs();
    stacks(true);
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back", "unchanged"], "{}", ran.out);
    assert_eq!(ran.out.matches(" is no longer as it was planned").count(), 6, "{}", ran.out);
    let after = files(&host, id);
    assert!(after == by_hand, "{after:#?}");
    assert_eq!(runs(), invocations, "nothing was switched, so nothing is restarted");
    let left = host.sh(&format!("systemctl is-active '{id}-*-goes.service' '{id}-*-stays.service' | sort -u; ls /var/lib/reconcile/{id}/run /var/lib/reconcile/{id}/owed | grep -v :; true"));
    assert_eq!(left, "active\n\n");
    // Once it was seen, it is decided anew.
    host.sh(&format!("rm /run/{id}-*; for name in content mode new gone link unwanted; do : >/run/{id}-$name; done"));
    host.sh(&format!("rm /srv/{id}/new"));
    repo.apply();
    repo.is_settled();
}

#[test]
fn g05_a_unit_that_is_restarted_by_hand_during_an_apply_ends_as_wanted() {
    let host = free();
    let id = "g05-by-hand";
    let repo = Repo::new(id, &[&host]);
    let often = "directive \"Unit\" StartLimitIntervalSec=\"0\"";
    let body = |word: &str| {
        repo.stack("one", &format!("file \"/srv/ID/x\" content=\"{word}\" {{ on-change restart=\"ID-b\" }}
            unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\"\n{often} }}\nunit \"ID-b\" {{ {often}\nexec \"/bin/sh\" \"-c\" \"A=$(cat /srv/ID/x) exec sleep 9999\" }}"));
    };
    let runs = |unit: &str| {
        host.sh(&format!("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {id}-{unit})/environ | grep ^A="))
    };
    body("one");
    repo.apply();
    let stop = Stop::on(&host);
    body("two");
    stop.at(0, "do_step*", How::Hold);
    repo.apply();
    let (count, _) = stop.release();
    let words = ["one", "two"];
    for number in 1..=count {
        let (word, dies) = (words[(number % 2) ^ 1], number % 3 == 0);
        body(word);
        stop.at(number, "do_step*", How::Hold);
        let run = repo.begin(&["apply", "--yes", "--json", "--confirm", "5"]);
        stop.reached();
        host.sh(&format!("systemctl restart {id}-a {id}-b"));
        if dies {
            host.sh(&super::crash::kill_there(id));
        }
        let (_, place) = stop.release();
        let ran: Ran = finish(run, LONG);
        assert_eq!(ran.code == 0, !dies, "step {number} of {count}, {place}: {ran:?}");
        if dies {
            repo.apply();
        }
        assert_eq!(
            (runs("a"), runs("b")),
            (format!("A={word}\n"), format!("A={word}\n")),
            "step {number} of {count}, {place}"
        );
        repo.is_settled();
    }
}
