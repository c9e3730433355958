//! 1, 4 and 5: units that are restarted because of files of other stacks.

use serde_json::Value;

use crate::kit::{Host, Repo, any};

/// The stack `app` comes first by its name, and reads a file of `conf` when it starts.
fn repo<'a>(host: &'a Host, id: &str) -> (Repo, impl Fn() -> String + use<'a>) {
    let repo = Repo::new(id, &[host]);
    repo.stack(
        "app",
        "unit \"ID-a\" {\nexec \"/bin/sh\" \"-c\" \"cp /srv/ID/conf /srv/ID/runs-with; exec sleep 9999\"
        restart-on \"/srv/ID/conf\"\n}",
    );
    conf(&repo, "one");
    repo.apply();
    let read = format!("cat /srv/{id}/runs-with");
    (repo, move || host.sh(&read))
}

fn conf(repo: &Repo, text: &str) {
    repo.stack("conf", &format!("file \"/srv/ID/conf\" content=\"{text}\""));
}

#[test]
fn g05_a_file_of_another_stack_is_there_before_the_restart_that_it_asks_for() {
    let host = any();
    let (repo, runs_with) = repo(&host, "g05-watched");
    assert_eq!(runs_with(), "one", "it is there before the first start, too");
    conf(&repo, "two");
    assert_eq!(repo.plan().effects().into_iter().collect::<Vec<_>>(), ["restart g05-watched-a.service"]);
    repo.apply();
    assert_eq!(runs_with(), "two");
    repo.is_settled();
}

#[test]
fn g05_a_restart_is_owed_where_only_the_file_was_applied() {
    let host = any();
    let (repo, runs_with) = repo(&host, "g05-apart");
    let invocation = host.invocation("g05-apart-a");
    conf(&repo, "two");
    // The unit's stack alone has no reason to do anything.
    let plan = repo.plan_with(&["--stack", "app"]);
    assert!(plan.is_empty(), "{:#}", plan.0["hosts"]);
    // It takes no part; later it is held.
    let owes = "g05-apart-a.service runs with older files until app is applied: a restart is owed";
    let note = |plan: &Value| plan["hosts"][0]["notes"].to_string();
    assert!(note(&repo.plan_with(&["--stack", "conf"]).0).contains(owes));
    assert!(!note(&repo.plan().0).contains(owes));
    repo.apply_with(&["--stack", "conf"]);
    assert_eq!((runs_with().as_str(), host.invocation("g05-apart-a")), ("one", invocation.clone()));
    let plan = repo.plan();
    let unit = plan.change("unit:g05-apart-a");
    assert_eq!((&unit["cause"], plan.stack_names()), (&"owed".into(), vec!["app".to_string()]), "{unit:#}");
    repo.apply();
    assert_eq!(runs_with(), "two");
    repo.is_settled();
    assert_eq!(repo.run(&["hold", "app"]).code, 0);
    conf(&repo, "three");
    assert!(note(&repo.plan().0).contains(owes));
    repo.apply();
    assert_eq!((runs_with().as_str(), repo.run(&["release", "app"]).code), ("two", 0));
    repo.apply();
    assert_eq!(runs_with(), "three");
    repo.is_settled();
    // What is not done asks for nothing.
    assert_eq!(repo.run(&["hold", "conf"]).code, 0);
    conf(&repo, "four");
    assert!(!repo.plan().effects().contains("restart g05-apart-a.service"));
    assert_eq!(repo.run(&["release", "conf"]).code, 0);
    // What goes back owes nothing.
    let invocation = host.invocation("g05-apart-a");
    repo.stack("conf", "file \"/srv/ID/conf\" content=\"four\"\nunit \"ID-b\" {\nexec \"/bin/sleep 9999\"\nhealth command=\"/bin/false\" within=\"1s\"\n}");
    assert_eq!(repo.run(&["apply", "--yes", "--json", "--stack", "conf"]).code, 4);
    conf(&repo, "three");
    repo.is_settled();
    assert_eq!(host.invocation("g05-apart-a"), invocation);
}

#[test]
fn g05_a_way_back_that_does_not_get_to_its_reload_owes_it() {
    let host = any();
    let repo = Repo::new("g05-stuck", &[&host]);
    // It takes what it is told to; a second time it does not.
    host.sh("mkdir -p /srv/g05-stuck && cd /srv/g05-stuck && cat >reload <<'E' && chmod 755 reload
#!/bin/sh
[ ! -e /srv/g05-stuck/stuck ] && cp /srv/g05-stuck/conf /srv/g05-stuck/runs-with && touch /srv/g05-stuck/stuck
E");
    let body = |text: &str, more: &str| {
        format!(
            "file \"/srv/ID/conf\" content=\"{text}\" {{ on-change reload=\"ID-a\" }}
            unit \"ID-a\" {{
                exec \"/bin/sh\" \"-c\" \"cp /srv/ID/conf /srv/ID/runs-with; exec sleep 9999\"
                exec-reload \"/srv/ID/reload\"
                {more}
            }}"
        )
    };
    repo.stack("one", &body("one", ""));
    repo.apply();
    repo.stack("one", &body("two", "health command=\"/bin/false\" within=\"1s\""));
    let ran = repo.run(&["apply", "--yes", "--json"]);
    assert_eq!((ran.code, ran.outcome("file:/srv/g05-stuck/conf").as_str()), (1, "failed"), "{ran:?}");
    // The former file is back, and what failed is what runs.
    assert_eq!(host.sh("cat /srv/g05-stuck/conf /srv/g05-stuck/runs-with; rm /srv/g05-stuck/stuck"), "onetwo");
    repo.stack("one", &body("one", ""));
    let plan = repo.plan();
    assert_eq!(plan.effects().into_iter().collect::<Vec<_>>(), ["reload g05-stuck-a.service"]);
    repo.apply();
    assert_eq!(host.sh("cat /srv/g05-stuck/runs-with"), "one");
    host.sh("rm -f /srv/g05-stuck/stuck");
    repo.is_settled();
}
