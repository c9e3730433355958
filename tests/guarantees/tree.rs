//! 7: a new directory comes with all that is in it, and goes with all of it that is ours.

use reconcile::engine;

use crate::kit::{Repo, any};
use crate::planner::Planner;

const NEW: &str = "directory \"/srv/ID/new\" mode=\"0750\" owner=\"www-data\"
    directory \"/srv/ID/new/empty\" mode=\"1777\"
    file \"/srv/ID/new/a\" content=\"a\" mode=\"0640\" owner=\"www-data\"
    file \"/srv/ID/new/deep/er/b\" content=\"b\"
    file \"/srv/ID/new/link\" link=\"/srv/ID/new/deep\"";

#[test]
fn g07_a_new_directory_comes_whole_and_leaves_what_is_not_ours() {
    let host = any();
    let repo = Repo::new("g07-tree", &[&host]);
    let unit = |does: &str| format!("{NEW}\nunit \"ID-a\" {{ exec \"/bin/sh -c \\\"{does}\\\"\" }}");
    let found = || {
        host.sh("cd /srv; find g07-tree 2>/dev/null | sort | xargs -d '\\n' -r stat -c '%a %U %N' 2>/dev/null; true")
    };
    repo.stack("one", &unit("exit 1"));
    repo.fail();
    assert_eq!(found(), "", "all of it goes");
    repo.stack("one", &unit("echo theirs >/srv/ID/new/deep/theirs; exit 1"));
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    let left = "755 root 'g07-tree'\n750 www-data 'g07-tree/new'\n755 root 'g07-tree/new/deep'\n644 root 'g07-tree/new/deep/theirs'\n";
    assert_eq!(found(), left);
    repo.stack("one", &unit("exec sleep 9999"));
    repo.apply();
    repo.is_settled();
    let whole = "755 root 'g07-tree'\n750 www-data 'g07-tree/new'\n640 www-data 'g07-tree/new/a'\n\
        755 root 'g07-tree/new/deep'\n755 root 'g07-tree/new/deep/er'\n644 root 'g07-tree/new/deep/er/b'\n\
        644 root 'g07-tree/new/deep/theirs'\n1777 root 'g07-tree/new/empty'\n\
        777 root 'g07-tree/new/link' -> '/srv/g07-tree/new/deep'\n";
    assert_eq!(found(), whole);
    host.sh("rm /srv/g07-tree/new/deep/theirs");
    repo.stack("one", &unit("exec sleep 9999").replace("/new", "/other"));
    repo.apply();
    // What was there before us is not ours to remove.
    host.sh("rmdir /srv/g07-tree/new/deep /srv/g07-tree/new");
    let other = whole.replace("644 root 'g07-tree/new/deep/theirs'\n", "").replace("/new", "/other");
    assert_eq!(found(), other, "made at once, it is the same");
}

#[test]
fn g01_what_is_given_away_keeps_its_special_mode() {
    let host = any();
    let repo = Repo::new("g01-special", &[&host]);
    // The first way is a new directory, the second one that is there.
    for name in ["new", "further"] {
        repo.stack("one", &format!("file \"/srv/ID/{name}\" content=\"{name}\" mode=\"6755\" owner=\"www-data\""));
        repo.apply();
        repo.is_settled();
        assert_eq!(host.sh(&format!("stat -c '%a %U' /srv/g01-special/{name}")), "6755 www-data\n");
    }
}

#[test]
fn g01_a_directory_that_another_stack_describes_is_as_that_says() {
    let host = any();
    let repo = Repo::new("g01-above", &[&host]);
    repo.stack("a", "directory \"/srv/ID/app\" mode=\"0700\" owner=\"www-data\"");
    repo.stack("b", "file \"/srv/ID/app/x\" content=\"x\"");
    repo.apply();
    repo.is_settled();
    assert_eq!(host.sh("stat -c '%a %U' /srv/g01-above/app"), "700 www-data\n");
}

#[test]
fn g07_two_stacks_make_a_directory_and_one_of_them_fails() {
    let host = any();
    let repo = Repo::new("g07-trees", &[&host]);
    let good = |name: &str, bad: &str| format!("file \"/srv/ID/not-{bad}/{name}\" content=\"{name}\"");
    for bad in ["a", "b"] {
        for name in ["a", "b"] {
            let dies = if name == bad { "unit \"ID-dies\" exec=\"/bin/false\"" } else { "" };
            repo.stack(name, &format!("{}\n{dies}", good(name, bad)));
        }
        let ran = repo.fail();
        let other = if bad == "a" { "b" } else { "a" };
        assert_eq!(ran.outcome(&format!("file:/srv/g07-trees/not-{bad}/{bad}")), "rolled-back", "{}", ran.out);
        assert_eq!(ran.outcome(&format!("file:/srv/g07-trees/not-{bad}/{other}")), "applied", "{}", ran.out);
        assert_eq!(host.sh(&format!("ls /srv/g07-trees/not-{bad}")), format!("{other}\n"));
    }
}

#[test]
fn g07_a_directory_that_an_earlier_stack_brings_is_no_obstacle() {
    let host = any();
    let repo = Repo::new("g07-brought", &[&host]);
    // A directory that what it starts has made, and one that both bring.
    let makes = "unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/bin/mkdir -p /srv/ID/one/data\" }";
    for (brings, path) in [("", "one/b"), ("file \"/srv/ID/two/a\" content=\"a\"", "two/b")] {
        repo.stack("a", &format!("{makes}\n{brings}"));
        repo.stack("b", &format!("after \"a\"\nfile \"/srv/ID/{path}\" content=\"b\""));
        repo.apply();
        repo.is_settled();
    }
    assert_eq!(host.sh("cd /srv/g07-brought; find one two | sort"), "one\none/data\ntwo\ntwo/a\ntwo/b\n");
}

/// What somebody makes between a plan and its apply is theirs, also where it is empty.
#[tokio::test]
async fn g07_a_directory_that_has_come_since_the_plan_is_left_alone() {
    let host = any();
    let repo = Repo::new("g07-came", &[&host]);
    repo.stack("one", "file \"/srv/ID/deep/er/x\" content=\"x\"");
    for made in ["/srv/g07-came", "/srv/g07-came/deep/er"] {
        let planner = Planner::new(repo.path());
        let planned = planner.plan().await;
        host.sh(&format!("mkdir -p -m 700 {made}"));
        let report = engine::apply(&planner.setup, planned, "20260101T000000-0-0", "a test").await;
        let failures = &report.hosts[0].failures;
        assert!(failures[0].what.contains("no longer as it was planned"), "{failures:?}");
        assert_eq!(host.sh(&format!("stat -c %a {made}; find {made} -type f")), "700\n");
    }
    repo.apply();
    assert_eq!(host.sh("cat /srv/g07-came/deep/er/x; stat -c %a /srv/g07-came"), "x700\n");
}

#[test]
fn g07_new_directories_are_what_their_place_makes_of_them() {
    let host = any();
    let repo = Repo::new("g07-place", &[&host]);
    host.sh("mkdir -p /srv/g07-place-real/group; chgrp www-data /srv/g07-place-real/group; chmod 2775 /srv/g07-place-real/group");
    host.sh("ln -sfn g07-place-real /srv/g07-place");
    repo.stack(
        "one",
        "file \"/srv/ID/group/new/x\" content=\"x\"\nfile \"/srv/ID/both/a\" content=\"a\"\nfile \"/srv/ID-real/both/b\" content=\"b\"",
    );
    repo.apply();
    assert_eq!(host.sh("stat -c '%a %G' /srv/g07-place/group/new; ls /srv/g07-place/both"), "2755 root\na\nb\n");
    repo.is_settled();
    // One that is described is as it is described.
    repo.stack("one", "directory \"/srv/ID/group/own\" mode=\"0750\"\ndirectory \"/srv/ID/group/new\"");
    repo.apply();
    assert_eq!(host.sh("cd /srv/g07-place/group; stat -c '%a %G' own new"), "750 root\n755 root\n");
    repo.is_settled();
    host.sh("rm -rf /srv/g07-place-real");
}
