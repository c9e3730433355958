//! What holds a plan, and what does not.

use std::collections::BTreeSet;

use super::{Hazard, Unless};
use crate::load::{Extent, Limits};
use crate::plan::guard;
use crate::plan::tests::{HOST, config, files, plan_of};

/// What holds the plan from one state of the repository to another, over a link that may break.
fn held(hosts: &str, before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
    let plan = plan_of(&config(hosts, before), &config(hosts, after), true);
    plan.hazards.into_iter().map(|hazard| hazard.what).collect()
}

#[test]
fn g10_deletions_are_capped_by_number_and_by_share() {
    for (owned, stay, what) in [
        (100, 80, None),
        (100, 79, Some("would remove 21 of 100 resources: the limit is 20")),
        (10, 5, None),
        (10, 4, Some("would remove 6 of 10 resources: the limit is 50 %")),
        (9, 1, None),
        (40, 9, Some("would remove 31 of 40 resources: the limit is 20")),
    ] {
        let found = held(HOST, &[("a", &files(0..owned))], &[("a", &files(0..stay))]);
        assert_eq!(found, what.into_iter().collect::<Vec<_>>(), "{owned} to {stay}");
    }
}

#[test]
fn g10_limits_are_of_the_host_its_file_or_the_repository() {
    let (before, after) = (files(0..8), files(0..4));
    for (hosts, held_back) in [
        ("host \"web\" { limits deletions=3 }", true),
        ("defaults { limits deletions=3 }\nhost \"web\"", true),
        ("defaults { limits deletions=3 }\nhost \"web\" { limits deletions=4 }", false),
        ("host \"web\" { limits restarts=0 }", false),
    ] {
        let found = held(hosts, &[("a", &before)], &[("a", &after)]);
        assert_eq!(!found.is_empty(), held_back, "{hosts}: {found:?}");
    }
}

#[test]
fn g10_nothing_left_for_a_host_is_never_taken_at_its_word() {
    let found = held(HOST, &[("a", &files(0..2)), ("b", &files(2..3))], &[]);
    assert_eq!(found, ["would remove 3 of 3 resources: nothing is wanted on this host any more"]);
}

#[test]
fn g10_a_stack_that_comes_to_nothing_is_held_and_one_that_is_gone_is_not() {
    let before = [("a", files(0..3)), ("b", files(3..9))];
    let before = before.each_ref().map(|(name, body)| (*name, body.as_str()));
    let found = held(HOST, &before, &[("a", ""), before[1]]);
    let what = "would remove all 3 resources of it: the stack `a` is for this host, but comes to nothing here";
    assert_eq!(found, [what]);
    assert_eq!(held(HOST, &before, &[before[1]]), [""; 0], "its folder was removed");
    let moved = [("a", ""), ("b", &files(0..9))];
    assert_eq!(held(HOST, &before, &moved), [""; 0], "its resources moved to another stack");
}

#[test]
fn g10_restarts_are_capped() {
    let units = |value: usize| {
        (0..4).map(|n| format!("unit \"u{n}\" {{ exec \"/bin/x\"\nenv A=\"{value}\"\n}}\n")).collect::<String>()
    };
    let hosts = |most: usize| format!("host \"web\" {{ limits restarts={most} }}");
    let found = |most: usize| held(&hosts(most), &[("a", &units(1))], &[("a", &units(2))]);
    assert_eq!(found(4), [""; 0]);
    assert_eq!(found(3), ["would restart 4 units and containers: the limit is 3"]);
}

#[test]
fn g10_what_is_protected_is_removed_and_stopped_by_an_override_alone() {
    let stay = "file \"/etc/motd\" content=\"x\"\n";
    for (body, what) in [
        (
            "file \"/etc/ssh/sshd_config.d/x.conf\" content=\"x\"",
            vec!["would remove /etc/ssh/sshd_config.d/x.conf, which is protected"],
        ),
        (
            "file \"/root/.ssh/authorized_keys\" content=\"x\" mode=\"0600\"",
            vec!["would remove /root/.ssh/authorized_keys, which is protected"],
        ),
        ("file \"/etc/app.conf\" content=\"x\"", vec![]),
    ] {
        let found = held(HOST, &[("a", &format!("{stay}{body}"))], &[("a", stay)]);
        assert_eq!(found, what, "{body}");
    }
    let unit = |state: &str| format!("unit \"ssh\" {{ exec \"/usr/sbin/sshd -D\"\n{state}\n}}");
    let found = held(HOST, &[("a", &unit(""))], &[("a", &unit("running #false\nenabled #false"))]);
    let what = ["would disable ssh.service, which is protected", "would stop ssh.service, which is protected"];
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), what.into(), "{found:?}");
}

#[test]
fn g10_what_is_protected_is_written_where_the_host_goes_back() {
    let body = |content: &str| format!("file \"/etc/ssh/sshd_config.d/x.conf\" content=\"{content}\"");
    let (before, after) = (config(HOST, &[("a", &body("one"))]), config(HOST, &[("a", &body("two"))]));
    let what = "would write /etc/ssh/sshd_config.d/x.conf, which is protected".to_string();
    let remote = plan_of(&before, &after, true);
    assert_eq!(remote.hazards, [Hazard { what: what.clone(), unless: Unless::Confirmed }]);
    assert_eq!((remote.held(true).count(), remote.held(false).count()), (0, 1), "--confirm 0 takes the guard away");
    let here = plan_of(&before, &after, false);
    assert_eq!(here.hazards, [Hazard { what, unless: guard::Unless::Overridden }]);
    assert_eq!(here.held(true).count(), 1, "this machine itself has no link that could break");
}

#[test]
fn g07_a_transaction_is_a_stack_or_a_whole_host() {
    let extent = |hosts: &str| config(hosts, &[]).hosts.values().next().map(|host| (host.extent, host.limits));
    assert_eq!(extent(HOST), Some((Extent::Stack, Limits::default())));
    assert_eq!(extent("host \"web\" transaction=\"host\"").unwrap().0, Extent::Host);
    assert_eq!(extent("defaults transaction=\"host\"\nhost \"web\"").unwrap().0, Extent::Host);
    let body = "file \"/etc/a\" content=\"a\"";
    let whole = "host \"web\" transaction=\"host\"";
    let mut plan =
        plan_of(&config(whole, &[]), &config(whole, &[("a", body), ("b", "file \"/etc/b\" content=\"b\"")]), true);
    assert_eq!(plan.carried_out().count(), 2);
    let why = crate::plan::Refusal { why: "foreign".into(), hint: String::new() };
    plan.transactions[1].changes[0].refused = Some(why);
    assert_eq!(plan.carried_out().count(), 0, "all or nothing");
    plan.extent = Extent::Stack;
    assert_eq!(plan.carried_out().count(), 1);
}
