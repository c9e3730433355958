//! 6 and 7, where everything on a host is one transaction.

use std::time::Duration;

use crate::crash::kill_there;
use crate::kit::{Repo, any, finish};

const ONE: &str = "unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nenv A=\"1\"\n}\nfile \"/srv/ID/one\" content=\"1\"";
const THREE: &str = "file \"/srv/ID/three\" content=\"1\"";

#[test]
fn g07_where_a_host_is_one_transaction_all_of_it_goes_back() {
    let host = any();
    let repo = Repo::new("g07-whole", &[&host]);
    let (one, three) = (ONE.replace("\"1\"", "\"2\""), THREE.replace("\"1\"", "\"2\""));
    let places = "/srv/g07-whole /etc/systemd/system/g07-whole* /var/lib/reconcile/g07-whole/ledger";
    let picture = || host.picture(places, "g07-whole-a g07-whole-b");
    repo.stack("one", ONE);
    repo.stack("three", THREE);
    repo.apply();
    let before = picture();
    repo.stack("one", &one);
    repo.stack("two", "unit \"ID-b\" exec=\"/bin/false\"");
    repo.stack("three", &three);
    repo.write("hosts/repo.kdl", "repo \"g07-whole\" transaction=\"host\"\n");
    assert_eq!(repo.plan().0["hosts"][0]["transaction"], "host");
    let ran = repo.fail();
    // In the order of their names: `three` comes before `two`.
    let outcomes = ["unit:g07-whole-a", "file:/srv/g07-whole/three", "unit:g07-whole-b"].map(|id| ran.outcome(id));
    assert_eq!(outcomes, ["rolled-back", "rolled-back", "rolled-back"], "{}", ran.out);
    assert_eq!(ran.code, 4, "all that went wrong was brought back");
    assert!(ran.out.contains("another stack of the host did not go well"), "{}", ran.out);
    picture().is_as(&before, "all of it");
    let runs = host.sh("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID g07-whole-a)/environ | grep ^A=");
    assert_eq!(runs, "A=1\n");
    // What comes after the failure is not begun.
    repo.stack("three", &format!("after \"two\"\n{three}"));
    let ran = repo.fail();
    assert_eq!((ran.outcome("file:/srv/g07-whole/three"), ran.code), ("blocked".into(), 4), "{}", ran.out);
    picture().is_as(&before, "all of it, again");
    // One refused thing refuses all.
    host.sh("echo mine >/srv/g07-whole/mine");
    repo.stack("two", "file \"/srv/ID/mine\" content=\"ours\"");
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["blocked"], "{}", ran.out);
    host.sh("rm /srv/g07-whole/mine");
    repo.write("hosts/repo.kdl", "repo \"g07-whole\"\n");
    repo.stack("two", "unit \"ID-b\" exec=\"/bin/false\"");
    let ran = repo.fail();
    assert_eq!(ran.outcome("unit:g07-whole-a"), "applied", "a stack is one by itself: {}", ran.out);
}

#[test]
fn g06_a_run_that_died_half_way_goes_back_as_a_whole() {
    let host = any();
    let repo = Repo::new("g06-whole", &[&host]);
    let picture = || host.picture("/srv/g06-whole /etc/systemd/system/g06-whole*", "g06-whole-a g06-whole-b");
    repo.write("hosts/repo.kdl", "repo \"g06-whole\" transaction=\"host\"\n");
    repo.stack("one", ONE);
    repo.apply();
    let before = picture();
    repo.stack("one", &ONE.replace("\"1\"", "\"2\""));
    repo.stack("two", "unit \"ID-b\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep 5\" }");
    let run = repo.begin(&["apply", "--yes", "--json", "--confirm", "0"]);
    host.until("grep -q ^done /var/lib/reconcile/g06-whole/run/*/stack/one/phase && [ \"$(systemctl show -P SubState g06-whole-b)\" = start-pre ]");
    host.sh(&kill_there("g06-whole"));
    assert_eq!(finish(run, Duration::from_mins(5)).code, 1);
    repo.drop_stack("two");
    repo.stack("one", ONE);
    repo.apply();
    picture().is_as(&before, "what was done is taken back with what was not");
    repo.is_settled();
}

#[test]
fn g07_a_stack_may_be_called_like_anything_of_a_run() {
    let host = any();
    let repo = Repo::new("g07-called", &[&host]);
    let all = ["confirmed", "extent", "new", "order", "output", "over", "run", "stack", "stages", "sums", "workers"];
    let set = |word: &str, more: &str| {
        for name in all {
            repo.stack(name, &format!("file \"/srv/ID/{name}\" content=\"{word}\"\n{}", more.replace("NAME", name)));
        }
    };
    set("one", "");
    repo.apply();
    let places = "/srv/g07-called /var/lib/reconcile/g07-called/ledger /var/lib/reconcile/g07-called/run";
    let before = host.files(places);
    set("two", "unit \"ID-NAME\" exec=\"/bin/false\"");
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    assert!(host.files(places) == before, "{:#?}", host.files(places));
    set("two", "");
    repo.apply();
    repo.is_settled();
}
