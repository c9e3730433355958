//! Which stacks must go well before which on a host: those that they come `after`, and those whose changes their own
//! changes need.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{Kind, ResourceId, StackName};
use crate::plan::Change;
use crate::plan::host::Planner;
use crate::resource::Resource;

/// For each stack, others of which it needs that they go well.
pub(super) type Needs = BTreeMap<StackName, BTreeSet<StackName>>;

impl Planner<'_> {
    /// For each stack with changes, those with changes that must go well before it. There are no circles.
    pub(super) fn needs_of_stacks(&self, by_stack: &BTreeMap<StackName, Vec<Change>>) -> Needs {
        let mut needs: Needs = by_stack.keys().map(|stack| (stack.clone(), self.said(stack, by_stack))).collect();
        for (stack, other, needed) in self.found(by_stack) {
            // Rendering refuses resources that wait for each other, but two stacks may well need something of each other:
            // what would close a circle is left to the order of names. What the other one is restarted for is to be
            // there by then; a directory above it is made with it.
            if needed.kind == Kind::Directory && self.watches(&other, &by_stack[&stack]) {
                continue;
            }
            if !reaches(&needs, &stack, &other) && !reaches(&needs, &other, &stack) {
                needs.entry(stack).or_default().insert(other);
            }
        }
        needs
    }

    /// The stacks with changes that a stack is `after`. One without any hands on what it is itself after, whether it is
    /// on this host or not.
    fn said(&self, stack: &StackName, by_stack: &BTreeMap<StackName, Vec<Change>>) -> BTreeSet<StackName> {
        let after = |stack: &StackName| self.policy.after.get(stack).into_iter().flatten();
        let (mut said, mut looked_at) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<&StackName> = after(stack).collect();
        while let Some(other) = open.pop() {
            if !looked_at.insert(other) {
                continue;
            }
            if by_stack.contains_key(other) {
                said.insert(other.clone());
            } else {
                open.extend(after(other));
            }
        }
        said
    }

    /// Stacks with a change that needs a change of another stack, each with that one and what changes there. That a
    /// resource needs one which is as it should be binds nobody.
    fn found(&self, by_stack: &BTreeMap<StackName, Vec<Change>>) -> BTreeSet<(StackName, StackName, ResourceId)> {
        let changes = || by_stack.values().flatten();
        let changing: BTreeMap<&ResourceId, &StackName> = changes().map(|each| (&each.id, &each.stack)).collect();
        let resources = self.desired.resources.iter().map(|resource| (&resource.id, resource)).collect();
        let pairs = changes().flat_map(|change| {
            let needed = needed_changes(&change.id, &resources, &changing);
            let others = needed.into_iter().filter(|(other, _)| **other != change.stack);
            others.map(|(other, id)| (change.stack.clone(), other.clone(), id.clone()))
        });
        pairs.collect()
    }
}

/// The nearest changes that a resource needs, with their stacks: what those need is theirs to wait for.
fn needed_changes<'a>(
    id: &ResourceId,
    resources: &BTreeMap<&ResourceId, &'a Resource>,
    changing: &BTreeMap<&'a ResourceId, &'a StackName>,
) -> BTreeSet<(&'a StackName, &'a ResourceId)> {
    let needs = |id: &ResourceId| resources.get(id).into_iter().flat_map(|resource| &resource.needs);
    let (mut changes, mut looked_at) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<&ResourceId> = needs(id).collect();
    while let Some(needed) = open.pop() {
        if !looked_at.insert(needed) {
            continue;
        }
        match changing.get_key_value(needed) {
            Some((id, stack)) => _ = changes.insert((*stack, *id)),
            None => open.extend(needs(needed)),
        }
    }
    changes
}

/// Whether `from` needs `to`, be it through others.
pub(super) fn reaches(needs: &Needs, from: &StackName, to: &StackName) -> bool {
    let mut looked_at = BTreeSet::new();
    let mut open = vec![from];
    while let Some(stack) = open.pop() {
        if stack == to {
            return true;
        }
        if looked_at.insert(stack) {
            open.extend(needs.get(stack).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::hold::Hold;
    use crate::host::observation::Observation;
    use crate::load::Config;
    use crate::plan::HostPlan;
    use crate::plan::tests::{HOST, applied, config, desired, plan_from, plan_of, plan_of_stacks};

    const HOSTS: &str = "host \"web\" user=\"root\"\nhost \"db\" user=\"root\"";

    /// `app` after `mid`, `mid` after `zbase`, each with one file that says this.
    fn chain(hosts: &str, app: u8, mid: &str, zbase: u8) -> Config {
        let file = |name: &str, text: u8| format!("file \"/srv/{name}\" content=\"{text}\"");
        let stacks = [
            ("app", format!("after \"mid\"\n{}", file("app", app))),
            ("mid", format!("after \"zbase\"\n{mid}")),
            ("zbase", file("zbase", zbase)),
        ];
        config(hosts, &stacks.each_ref().map(|(name, body)| (*name, body.as_str())))
    }

    /// Each transaction in its order, with what it needs.
    fn told(plan: &HostPlan) -> Vec<String> {
        let needs = |needs: &BTreeSet<StackName>| needs.iter().map(StackName::as_str).collect::<Vec<_>>().join(" ");
        plan.transactions.iter().map(|each| format!("{} <- {}", each.stack, needs(&each.needs))).collect()
    }

    fn done(plan: &HostPlan) -> Vec<&str> {
        plan.carried_out().map(|each| each.stack.as_str()).collect()
    }

    #[test]
    fn after_counts_through_stacks_without_changes() {
        let mid = "file \"/srv/mid\" content=\"1\"";
        let elsewhere = format!("on \"db\"\nexcept \"web\"\n{mid}");
        let changed = "file \"/srv/mid\" content=\"2\"";
        for (what, before, after, expected) in [
            ("unchanged", chain(HOSTS, 1, mid, 1), chain(HOSTS, 2, mid, 2), vec!["zbase <- ", "app <- zbase"]),
            (
                "not on this host",
                chain(HOSTS, 1, &elsewhere, 1),
                chain(HOSTS, 2, &elsewhere, 2),
                vec!["zbase <- ", "app <- zbase"],
            ),
            (
                "changed itself",
                chain(HOSTS, 1, mid, 1),
                chain(HOSTS, 2, changed, 2),
                vec!["zbase <- ", "mid <- zbase", "app <- mid"],
            ),
            ("nothing before it changes", chain(HOSTS, 1, mid, 1), chain(HOSTS, 2, mid, 1), vec!["app <- "]),
            (
                "gone from this host by now",
                chain(HOSTS, 1, mid, 1),
                chain(HOSTS, 2, &elsewhere, 2),
                vec!["zbase <- ", "mid <- zbase", "app <- mid"],
            ),
        ] {
            assert_eq!(told(&plan_of(&before, &after, true)), expected, "{what}");
        }
    }

    #[test]
    fn what_is_held_or_refused_counts_through_stacks_without_changes() {
        let mid = "file \"/srv/mid\" content=\"1\"";
        let (before, after) = (chain(HOST, 1, mid, 1), chain(HOST, 2, mid, 2));
        let mut held = applied(&desired(&before));
        held.holds.insert("zbase".into(), Hold::parse("-\t0\talice\tthe audit"));
        let plan = plan_from(&held, &after, true);
        assert!(done(&plan).is_empty(), "{:?}", told(&plan));
        assert!(plan.transactions[1].held.as_ref().is_some_and(|why| why.contains("after zbase")));

        let mut refused = applied(&desired(&before));
        refused.ledgers.remove("test/ledger/zbase");
        let plan = plan_from(&refused, &after, true);
        assert!(plan.transactions[0].refusal().is_some() && done(&plan).is_empty(), "{:?}", told(&plan));
        let apart = chain("host \"web\" user=\"root\" transaction=\"host\"", 2, mid, 2);
        assert!(done(&plan_from(&refused, &apart, true)).is_empty());
    }

    #[test]
    fn stacks_that_take_no_part_hand_on_what_they_are_after() {
        let mid = |text: u8| format!("file \"/srv/mid\" content=\"{text}\"");
        let (before, after) = (chain(HOST, 1, &mid(1), 1), chain(HOST, 2, &mid(2), 2));
        let seen = applied(&desired(&before));
        for (stacks, expected) in [
            (&["app", "zbase"][..], vec!["zbase <- ", "app <- zbase"]),
            (&["app", "mid"], vec!["mid <- ", "app <- mid"]),
            (&["app"], vec!["app <- "]),
        ] {
            let chosen = stacks.iter().map(|name| StackName::new(*name).unwrap()).collect();
            assert_eq!(told(&plan_of_stacks(&seen, &after, true, Some(&chosen))), expected, "{stacks:?}");
        }
    }

    const SITE_AND_CONF: &str = "site \"www.example.org\" { root \"/srv/www\" }\nfile \"/etc/x\" content=\"1\"";
    const INSTALLS_AND_READS: &str = "packages \"nginx\"\nunit \"reads\" { exec \"/bin/app\"; restart-on \"/etc/x\" }";

    /// A unit that is restarted for what another stack puts into its directory.
    const READS: &str =
        "directory \"/etc/app.d\" mode=\"0750\"\nunit \"app\" { exec \"/bin/app\"; restart-on \"/etc/app.d/x\" }";

    const SITE: &str = "site \"www.example.org\" { root \"/srv/www\" }";

    #[test]
    fn what_resources_need_of_other_stacks_goes_first() {
        let tool = "packages \"nginx\"";
        let both = format!("{tool}\nfile \"/srv/shared/base\" content=\"1\"");
        let site = format!("{SITE}\ndirectory \"/srv/shared\"");
        for (what, stacks, expected) in [
            ("a site", vec![("app", SITE), ("base", tool)], vec!["base <- ", "app <- base"]),
            (
                "a path below a directory",
                vec![("app", "file \"/srv/x/f\" content=\"1\""), ("base", "directory \"/srv/x\"")],
                vec!["base <- ", "app <- base"],
            ),
            ("each of the other", vec![("app", &site), ("base", &both)], vec!["base <- ", "app <- base"]),
            (
                "what another stack is restarted for, and a package of that",
                vec![("app", SITE_AND_CONF), ("base", INSTALLS_AND_READS)],
                vec!["base <- ", "app <- base"],
            ),
            (
                "what another stack is restarted for",
                vec![("app", READS), ("conf", "file \"/etc/app.d/x\" content=\"1\"")],
                vec!["conf <- ", "app <- "],
            ),
        ] {
            let plan =
                plan_from(&Observation { systemd: true, ..Observation::default() }, &config(HOST, &stacks), true);
            assert_eq!(told(&plan), expected, "{what}");
        }
        // A resource that is as it should be binds nobody, whatever else of its stack changes.
        let base =
            |text: u8| config(HOST, &[("app", SITE), ("base", &format!("{tool}\nfile \"/b\" content=\"{text}\""))]);
        let mut seen = applied(&desired(&base(1)));
        seen.packages.insert("nginx".into(), "1".into());
        seen.paths.retain(|path, _| path == "/b");
        seen.ledgers.remove("test/ledger/app");
        assert_eq!(told(&plan_from(&seen, &base(2), true)), ["app <- ", "base <- "]);
    }
}
