//! 7: validated as a whole, switched at once, brought back by itself.

use crate::kit::{Repo, any};

const UNIT: &str = "unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nenv A=\"1\"\n}";
const FILE: &str = "file \"/srv/ID/x\" content=\"one\" mode=\"0640\" owner=\"www-data\"";
const SITE: &str = "site \"ID.test\" { listen \"127.0.0.1:7201\"\nsnippet \"location / { return 200 one; }\" }";

#[test]
fn g07_what_validators_refuse_is_never_switched() {
    let host = any();
    let repo = Repo::new("g07-refuse", &[&host]);
    repo.stack("one", &format!("{UNIT}\n{FILE}\n{SITE}"));
    repo.apply();
    let places = "/srv/g07-refuse /etc/nginx/sites-*/g07-refuse* /etc/systemd/system/g07-refuse* /var/lib/reconcile/g07-refuse/ledger";
    let picture = || host.picture(places, "g07-refuse-a");
    let before = picture();
    let other = FILE.replace("one", "two");
    let bad_site = SITE.replace("return 200 one", "no_such_directive on");
    let bad_unit = UNIT.replace("env", "directive \"Service\" NoSuchKey=\"1\"\nenv");
    for (id, said, body) in [
        ("site:g07-refuse.test", "no_such_directive", format!("{UNIT}\n{other}\n{bad_site}")),
        ("unit:g07-refuse-a", "NoSuchKey", format!("{bad_unit}\n{other}\n{SITE}")),
    ] {
        repo.stack("one", &body);
        let plan = repo.plan();
        assert!(plan.refusal(id).contains(said), "{id}: {:#}", plan.0["hosts"]);
        let ran = repo.fail();
        assert_eq!(ran.outcome(id), "blocked");
        assert_eq!(ran.outcome("file:/srv/g07-refuse/x"), "blocked", "what happens together does not happen at all");
        picture().is_as(&before, id);
    }
}

#[test]
fn g07_a_service_that_dies_is_brought_back_with_all_that_came_along() {
    let host = any();
    let repo = Repo::new("g07-dies", &[&host]);
    let idle = "unit \"ID-idle\" { exec \"/usr/bin/sleep 9999\"\nenabled #false\nrunning #false\n}";
    repo.stack("one", &format!("{UNIT}\n{FILE}\n{SITE}\n{idle}\nfile \"/srv/ID/gone\" content=\"stays\""));
    repo.apply();
    let places = "/srv/g07-dies /etc/nginx/sites-*/g07-dies* /etc/systemd/system/g07-dies* \
        /etc/systemd/system/*.wants/g07-dies* /var/lib/reconcile/g07-dies/ledger";
    let picture = || host.picture(places, "g07-dies-a g07-dies-idle g07-dies-new");
    let before = picture();
    let now = |with: &str, idle: &str| {
        let unit = UNIT.replace("A=\"1\"", "A=\"2\"");
        let file = FILE.replace("one", "two").replace("0640", "0600").replace("www-data", "root");
        format!("{unit}\n{file}\n{}\n{idle}\n{with}\ndirectory \"/srv/ID/new\"", SITE.replace("one", "two"))
    };
    let awake = idle.replace("#false", "#true");
    for (name, body) in [
        ("dies at once", now("unit \"ID-new\" exec=\"/bin/false\"", &awake)),
        ("dies a little later", now("unit \"ID-new\" exec=\"/bin/sleep 0.2\"", &awake)),
        ("is not healthy", now("unit \"ID-new\" { exec \"/bin/sleep 99\"\nhealth tcp=7299 within=\"1s\" }", &awake)),
        (
            "a command says no",
            now("unit \"ID-new\" { exec \"/bin/sleep 99\"\nhealth command=\"/bin/false\" within=\"1s\" }", &awake),
        ),
        ("one that was idle dies", now("", &awake.replace("/usr/bin/sleep 9999", "/bin/false"))),
    ] {
        repo.stack("one", &body);
        assert_eq!(repo.plan().change("file:/srv/g07-dies/gone")["action"], "remove");
        let ran = repo.fail();
        assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{name}: {}", ran.out);
        picture().is_as(&before, name);
        let served = host.sh("curl -s -H 'Host: g07-dies.test' http://127.0.0.1:7201/");
        assert_eq!(served, "one", "{name}");
        let runs = host.sh("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID g07-dies-a)/environ | grep ^A=");
        assert_eq!(runs, "A=1\n", "{name}: the process has what the file says");
    }
    repo.stack("one", &now("", &awake));
    repo.apply();
    repo.is_settled();
}

#[test]
fn g07_a_file_that_kills_its_unit_is_brought_back() {
    let host = any();
    let repo = Repo::new("g07-kills", &[&host]);
    let body = |content: &str, mode: &str| {
        format!(
            "file \"/srv/ID/run\" content=\"{content}\" mode=\"0755\" {{ on-change {mode}=\"ID-a\" }}
            unit \"ID-a\" {{ exec \"/srv/ID/run\"\nexec-reload \"/srv/ID/run reload\" }}"
        )
    };
    let good = "#!/bin/sh\\n[ \\\"$1\\\" = reload ] || exec sleep 9999\\n";
    repo.stack("one", &body(good, "restart"));
    repo.apply();
    let picture = || host.picture("/srv/g07-kills /etc/systemd/system/g07-kills*", "g07-kills-a");
    let before = picture();
    repo.stack("one", &body("#!/bin/sh\\nexit 3\\n", "restart"));
    let ran = repo.fail();
    assert_eq!(ran.outcome("file:/srv/g07-kills/run"), "rolled-back", "{}", ran.out);
    picture().is_as(&before, "brought back");
    repo.stack("one", &body("#!/bin/sh\\nexit 3\\n", "reload"));
    let ran = repo.fail();
    assert_eq!(ran.outcome("file:/srv/g07-kills/run"), "rolled-back", "{}", ran.out);
    picture().is_as(&before, "brought back");
}

#[test]
fn g07_a_failed_first_apply_leaves_nothing_behind() {
    let host = any();
    let repo = Repo::new("g07-first", &[&host]);
    repo.stack(
        "one",
        "unit \"ID-a\" exec=\"/bin/false\"\nfile \"/srv/ID/deep/er/x\" content=\"x\"\ndirectory \"/srv/ID/dir\"",
    );
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    let left = host.sh(&format!(
        "ls -d /srv/g07-first* /etc/systemd/system/g07-first* /etc/systemd/system/*.wants/g07-first* 2>/dev/null
        find / -xdev -name '.reconcile-{}' 2>/dev/null; cat /var/lib/reconcile/g07-first/ledger/* 2>/dev/null | grep resource; true",
        ran.json()["run"].as_str().expect("the run has a name")
    ));
    assert_eq!(left, "");
}
