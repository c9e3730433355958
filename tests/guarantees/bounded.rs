//! 10: the blast radius is bounded.

use crate::kit::{Repo, any, free};

#[test]
fn g10_the_last_of_a_host_goes_by_an_override_of_that_plan_alone() {
    let host = any();
    let repo = Repo::new("g10-last", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"x\"\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\"");
    repo.apply();
    let picture =
        || host.picture("/srv/g10-last /etc/systemd/system/g10-last* /var/lib/reconcile/g10-last", "g10-last-a");
    let before = picture();
    repo.drop_stack("one");
    let plan = repo.plan();
    assert_eq!(plan.held(), ["would remove 2 of 2 resources: nothing is wanted on this host any more"]);
    assert_eq!(plan.changes().count(), 2, "it is shown all the same");
    let (digest, markdown) = (plan.digest(), repo.run(&["plan", "--markdown"]));
    assert!(markdown.out.contains(&format!("`reconcile apply --override {}`", &digest[..12])), "{}", markdown.out);
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["blocked"], "{}", ran.out);
    let error = &ran.json()["hosts"][0]["error"];
    assert_eq!(error["kind"], "refused");
    assert!(error["hint"].as_str().expect("a hint").contains(&digest[..12]), "{error}");
    for args in [["--expect", digest.as_str()], ["--override", "0123456789ab"]] {
        assert_eq!(repo.run(&[&["apply"], &args[..]].concat()).code, 1, "{args:?}");
    }
    picture().is_as(&before, "nothing was done");
    repo.apply_all_the_same();
    assert_eq!(host.try_sh("ls -d /srv/g10-last* /etc/systemd/system/g10-last* 2>/dev/null").1, "");
    repo.is_settled();
}

#[test]
fn g10_the_way_in_is_changed_under_guard_and_removed_by_an_override() {
    let host = free();
    let repo = Repo::new("g10-way", &[&host]);
    let file = "/etc/ssh/sshd_config.d/g10-way.conf";
    host.sh(&format!("rm -f {file}"));
    let stay = "file \"/srv/ID/x\" content=\"x\"\n";
    let body =
        |content: &str| format!("{stay}file \"{file}\" content=\"# {content}\\n\" {{ on-change reload=\"ssh\" }}");
    repo.stack("one", &body("one"));
    repo.apply();
    repo.stack("one", &body("two"));
    let plan = repo.plan();
    let hazards = &plan.0["hosts"][0]["hazards"];
    let unless: Vec<&str> =
        hazards.as_array().expect("hazards").iter().filter_map(|hazard| hazard["unless"].as_str()).collect();
    assert_eq!(unless, ["confirmed", "confirmed"], "the file, and the reload of sshd: {hazards:#}");
    let unguarded = repo.run(&["apply", "--yes", "--json", "--confirm", "0"]);
    assert_eq!((unguarded.code, unguarded.outcome(&format!("file:{file}"))), (1, "blocked".into()), "{unguarded:?}");
    assert_eq!(host.sh(&format!("cat {file}")), "# one\n");
    repo.apply();
    repo.is_settled();
    repo.stack("one", stay);
    assert_eq!(repo.plan().held(), [format!("would remove {file}, which is protected")]);
    repo.fail();
    assert_eq!(host.sh(&format!("cat {file}")), "# two\n");
    repo.apply_all_the_same();
    assert!(!host.try_sh(&format!("ls {file}")).0);
    repo.is_settled();
}
