//! 7 and 14: the way back from a run, and a history that tells the truth of runs that broke off.

use std::process::Command;

use crate::kit::{Repo, any, free};

/// Commits all files of a repository.
pub fn commit(repo: &Repo) {
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=alice", "-c", "user.email=alice@example.org", "-c", "commit.gpgsign=false"];
        let ran = Command::new("git").current_dir(repo.path()).args(who).args(args).output().expect("git runs");
        assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    if !repo.path().join(".git").exists() {
        git(&["init", "-q"]);
    }
    for part in ["hosts", "secrets", "stacks"].into_iter().filter(|part| repo.path().join(part).exists()) {
        git(&["add", part]);
    }
    git(&["commit", "-q", "-m", "change"]);
}

const FIRST: &str = "unit \"ID-a\" exec=\"/usr/bin/sleep 9999\"
    file \"/srv/ID/x\" content=\"one\" mode=\"0640\" owner=\"www-data\"
    file \"/srv/ID/gone\" content=\"goes and comes\"";
const SECOND: &str = "unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nenv A=\"2\"\n}
    file \"/srv/ID/x\" content=\"two\"
    unit \"ID-new\" exec=\"/usr/bin/sleep 9998\"";

#[test]
fn g07_a_rollback_brings_back_what_was_before_a_run() {
    let host = any();
    let repo = Repo::new("g07-back", &[&host]);
    let places = "/srv/g07-back /etc/systemd/system/g07-back* /etc/systemd/system/*.wants/g07-back*";
    let picture = || host.picture(places, "g07-back-a g07-back-new");
    repo.stack("one", FIRST);
    commit(&repo);
    repo.apply();
    let first = picture();
    repo.stack("one", SECOND);
    commit(&repo);
    let second_run = repo.apply().json()["run"].as_str().unwrap().to_string();
    let second = picture();
    // A run that failed: before it was the second.
    repo.stack("one", &format!("{SECOND}\nunit \"ID-bad\" exec=\"/usr/bin/false\""));
    commit(&repo);
    repo.fail();
    let failed = &repo.run(&["history", "last", "--json"]).json()["run"];
    assert_eq!(
        (&failed["ending"], &failed["parts"][0]["outcomes"]["unit:g07-back-bad"]),
        (&"rolled-back".into(), &"rolled-back".into())
    );
    assert!(failed["failures"][0]["what"].as_str().unwrap().contains("g07-back-bad"), "{failed:#}");
    let ran = repo.run(&["rollback", "last", "--yes"]);
    assert!(ran.code == 0 && ran.out.contains("nothing to do"), "{ran:?}");
    picture().is_as(&second, "a failed run has gone back by itself");
    let ran = repo.run(&["rollback", &second_run, "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    picture().is_as(&first, "the state before the second run");
}

#[test]
fn g14_of_a_run_that_was_killed_no_end_is_told() {
    let host = free();
    let repo = Repo::new("g14-killed", &[&host]);
    repo.stack("one", FIRST);
    commit(&repo);
    repo.apply();
    let places = "/srv/g14-killed /etc/systemd/system/g14-killed*";
    let before = host.picture(places, "g14-killed-a");
    repo.stack(
        "one",
        &FIRST.replace(
            "exec=\"/usr/bin/sleep 9999\"",
            "{ exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep 4\"\n}",
        ),
    );
    commit(&repo);
    let mut child = repo.begin(&["apply", "--yes", "--json", "--confirm", "1"]);
    host.until("grep -q switching /var/lib/reconcile/g14-killed/run/*/stack/*/phase 2>/dev/null");
    let last = || repo.run(&["history", "last", "--json"]).json()["run"].clone();
    assert_eq!(last()["ending"], "at-work");
    child.kill().unwrap();
    child.wait().unwrap();
    let run = last();
    assert_eq!((&run["ending"], run["ended"].is_null()), (&"interrupted".into(), true), "{run:#}");
    assert!(run["parts"][0]["unchanged"].is_null(), "how it ended is not known: {run:#}");
    let ran = repo.run(&["rollback", "last", "--yes", "--lock-wait", "60"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    host.picture(places, "g14-killed-a").is_as(&before, "what was before the run that was killed");
}
