//! `after`: stacks that must be applied before others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::diagnostic::{Problem, Problems};
use crate::base::id::StackName;
use crate::load::Stack;
use crate::load::reading::with_known;

/// Reports `after` that names no stack, and stacks that wait for each other.
///
/// `folders` are those that have a stack: one that has mistakes of its own is there all the same.
pub(super) fn check(stacks: &BTreeMap<StackName, Stack>, folders: &BTreeSet<&str>, problems: &RefCell<Problems>) {
    let mut done = BTreeSet::new();
    for stack in stacks.values() {
        for (name, text) in &stack.after {
            if !folders.contains(name.as_str()) {
                let problem = Problem::error(format!("there is no stack `{name}`")).at(&text.span, "named here");
                let known = with_known(problem, name.as_str(), "stacks", folders.iter().copied());
                problems.borrow_mut().push(known);
            }
        }
        if let Some(circle) = circle_from(stack, stacks, &mut done) {
            problems.borrow_mut().push(circular(&circle, stacks));
        }
    }
}

/// The first circle that is reached from `start`, as names. Whatever was looked at is put into `done`, so that each
/// stack is looked at once and each circle is found once. Walks with a list of its own: a chain of ten thousand stacks
/// is no reason to overflow.
fn circle_from<'a>(
    start: &'a Stack,
    stacks: &'a BTreeMap<StackName, Stack>,
    done: &mut BTreeSet<&'a StackName>,
) -> Option<Vec<&'a StackName>> {
    let mut path: Vec<(&StackName, usize)> = vec![(&start.name, 0)];
    let mut on_path: BTreeSet<&StackName> = BTreeSet::from([&start.name]);
    if !done.insert(&start.name) {
        return None;
    }
    while let Some((name, next)) = path.last_mut() {
        let after = stacks.get(*name).and_then(|stack| stack.after.get(*next));
        let Some((target, _)) = after else {
            on_path.remove(*name);
            path.pop();
            continue;
        };
        *next += 1;
        if on_path.contains(target) {
            let names = path.iter().map(|(name, _)| *name);
            return Some(names.skip_while(|name| *name != target).collect());
        }
        if stacks.contains_key(target) && done.insert(target) {
            on_path.insert(target);
            path.push((target, 0));
        }
    }
    None
}

fn circular(circle: &[&StackName], stacks: &BTreeMap<StackName, Stack>) -> Problem {
    let mut names: Vec<String> = circle.iter().map(|name| format!("`{name}`")).collect();
    names.extend(names.first().cloned());
    let mut problem = Problem::error(format!("stacks wait for each other: {}", names.join(" after ")));
    for (index, name) in circle.iter().enumerate() {
        let target = circle[(index + 1) % circle.len()];
        let after = stacks.get(*name).and_then(|stack| stack.after.iter().find(|(other, _)| other == target));
        if let Some((_, text)) = after {
            problem = problem.at(&text.span, "waits for this");
        }
    }
    problem.hint("remove one of these `after`")
}
