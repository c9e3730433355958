//! What is wanted beside what is seen: the differences, and whose things they are.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::digest::Digest;
use crate::base::id::{RepoId, ResourceId, StackName};
use crate::host::observation::{Observation, PathSeen, Seen, Thing};
use crate::ledger::{Claim, Ledger, Written, keyed};
use crate::plan::PathChange;
use crate::resource::state::{Owner, PathState};
use crate::resource::{Desired, Resource};

/// Who owns what on a host.
#[derive(Debug, Default)]
pub struct Ownership {
    /// The ledgers of this repository, by stack.
    pub own: BTreeMap<StackName, Ledger>,
    /// Stacks whose ledgers have a claim that another stack's took the place of, and how often that one had moved.
    former: BTreeMap<ResourceId, BTreeMap<StackName, u32>>,
    /// The key of keyed digests on this host: that of the ledgers, or for the first one a key that follows from the
    /// host's current boot.
    pub salt: String,
    /// Paths that other repositories claim, and which.
    pub foreign: BTreeMap<Utf8PathBuf, String>,
}

impl Ownership {
    /// Reads all ledgers that a host has shown.
    pub fn read(repo: &RepoId, seen: &Observation) -> Self {
        let salt = Digest::of(seen.boot.as_bytes()).to_string();
        let mut ownership = Ownership { salt, ..Ownership::default() };
        for (name, text) in &seen.ledgers {
            let mut parts = name.split('/');
            let (Some(owner), Some("ledger"), Some(stack)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let ledger = Ledger::parse(text);
            if owner != repo.as_str() {
                for claim in ledger.claims.values() {
                    let paths = claim.paths.iter().filter(|(_, written)| !written.is_directory());
                    ownership.foreign.extend(paths.map(|(path, _)| (path.clone(), owner.to_string())));
                }
            } else if let Ok(stack) = StackName::new(stack) {
                if !ledger.salt.is_empty() {
                    ownership.salt.clone_from(&ledger.salt);
                }
                ownership.own.insert(stack, ledger);
            }
        }
        ownership
    }

    /// Of several claims on one resource, only one counts: the latest; where the ledgers do not tell, that of the stack
    /// which has the resource, or else that of a stack which is still `here`. The others own nothing any more.
    #[must_use]
    pub fn settled(mut self, desired: &Desired, here: &BTreeSet<StackName>) -> Self {
        let has: BTreeMap<_, _> = desired.resources.iter().map(|resource| (&resource.id, &resource.stack)).collect();
        let mut claims: BTreeMap<&ResourceId, Vec<_>> = BTreeMap::new();
        for (stack, ledger) in &self.own {
            for (id, claim) in &ledger.claims {
                let weight = (claim.moves, has.get(id) == Some(&stack), here.contains(stack));
                claims.entry(id).or_default().push((weight, stack));
            }
        }
        let mut former: BTreeMap<ResourceId, BTreeMap<StackName, u32>> = BTreeMap::new();
        for (id, mut claims) in claims {
            claims.sort();
            claims.pop();
            if !claims.is_empty() {
                former
                    .insert(id.clone(), claims.into_iter().map(|(weight, stack)| (stack.clone(), weight.0)).collect());
            }
        }
        for (id, stacks) in &former {
            for stack in stacks.keys() {
                self.own.get_mut(stack).and_then(|ledger| ledger.claims.remove(id));
            }
        }
        Ownership { former, ..self }
    }

    /// The stacks whose ledgers still have a claim on this resource besides the one that counts.
    pub fn former(&self, id: &ResourceId) -> impl Iterator<Item = &StackName> {
        self.former.get(id).into_iter().flat_map(BTreeMap::keys)
    }

    /// How often a resource has moved once this stack claims it: more often than every other ledger says.
    pub fn moves(&self, id: &ResourceId, stack: &StackName) -> u32 {
        let own = self.own.iter().filter_map(|(stack, ledger)| Some((stack, ledger.claims.get(id)?.moves)));
        let former = self.former.get(id).into_iter().flatten().map(|(stack, moves)| (stack, *moves));
        let (here, elsewhere): (Vec<_>, Vec<_>) = own.chain(former).partition(|(other, _)| *other == stack);
        let most = |claims: Vec<(&StackName, u32)>| claims.into_iter().map(|(_, moves)| moves).max();
        most(here).unwrap_or_default().max(most(elsewhere).map_or(0, |moves| moves.saturating_add(1)))
    }

    /// Our claim on a resource, in whichever stack it stands: a resource may have moved between stacks.
    pub fn claim(&self, id: &ResourceId, stack: &StackName) -> Option<&Claim> {
        let here = self.own.get(stack).and_then(|ledger| ledger.claims.get(id));
        here.or_else(|| self.own.values().find_map(|ledger| ledger.claims.get(id)))
    }

    /// Whether any stack of ours claims this path.
    pub fn owns(&self, path: &Utf8Path) -> bool {
        self.own.values().flat_map(|ledger| ledger.claims.values()).any(|claim| claim.paths.contains_key(path))
    }

    /// What we own and no longer want, in the stacks that `selected` lets through.
    pub fn unwanted<'a>(
        &'a self,
        desired: &Desired,
        selected: &dyn Fn(&StackName) -> bool,
    ) -> Vec<(&'a StackName, &'a ResourceId, &'a Claim)> {
        let wanted: BTreeSet<&ResourceId> = desired.resources.iter().map(|resource| &resource.id).collect();
        let selected = self.own.iter().filter(|(stack, _)| selected(stack));
        let claims =
            selected.flat_map(|(stack, ledger)| ledger.claims.iter().map(move |(id, claim)| (stack, id, claim)));
        claims.filter(|(_, id, _)| !wanted.contains(id)).collect()
    }
}

/// Whether what is seen at a path is what is wanted there.
pub fn is_as_wanted(wanted: &PathState, seen: &Seen<PathSeen>, with_owner: bool) -> bool {
    let Seen::Present(seen) = seen else { return false };
    let owned = |owner: &Owner| !with_owner || is_owner(owner, seen);
    match (wanted, &seen.thing) {
        (PathState::File { content, mode, owner }, Thing::File(Some(digest))) => {
            content.digest == *digest && *mode == seen.mode && owned(owner)
        }
        (PathState::Directory { mode, owner }, Thing::Directory) => *mode == seen.mode && owned(owner),
        (PathState::Link { target }, Thing::Link(there)) => target == there,
        _ => false,
    }
}

/// Whether a path's owner is the one meant, by name or by number.
fn is_owner(owner: &Owner, seen: &PathSeen) -> bool {
    let is = |wanted: &str, name: &str, number: u32| wanted == name || wanted == number.to_string();
    is(&owner.user, &seen.owner.user, seen.ids.0) && is(&owner.group, &seen.owner.group, seen.ids.1)
}

/// Whether what is seen at a path is what we last wrote there.
pub fn is_as_written(written: &Written, seen: &Seen<PathSeen>, with_owner: bool, salt: &str) -> bool {
    let Seen::Present(seen) = seen else { return false };
    let same = |mode: u32, owner: &Owner| mode == seen.mode && (!with_owner || is_owner(owner, seen));
    match (written, &seen.thing) {
        (Written::File { digest, secret, mode, owner }, Thing::File(Some(there))) => {
            let there = if *secret { keyed(salt, *there) } else { *there };
            *digest == there && same(*mode, owner)
        }
        (Written::Directory { mode, owner }, Thing::Directory) => same(*mode, owner),
        (Written::Link(target), Thing::Link(there)) => target == there,
        _ => false,
    }
}

/// The paths of a resource that are not as they should be, and those of its claim that are no longer wanted by anyone.
pub fn path_changes(
    resource: &Resource,
    claim: Option<&Claim>,
    seen: &Observation,
    wanted_by_anyone: &BTreeSet<&Utf8Path>,
    with_owner: bool,
) -> Vec<PathChange> {
    let mut changes = Vec::new();
    for (path, wanted) in &resource.state.paths {
        let before = seen_at(seen, path);
        if !is_as_wanted(wanted, &before, with_owner) {
            changes.push(change(seen, path, before, Some(wanted.clone())));
        }
    }
    changes.extend(claim.into_iter().flat_map(|claim| removals(claim, seen, wanted_by_anyone)));
    changes
}

/// The removal of every path of a claim that is there and that nobody wants. Deeper paths come first.
pub fn removals(claim: &Claim, seen: &Observation, wanted_by_anyone: &BTreeSet<&Utf8Path>) -> Vec<PathChange> {
    unwanted_paths(claim, wanted_by_anyone)
        .filter(|(path, written)| !is_another(written, seen.paths.get(*path)))
        .map(|(path, _)| change(seen, path, seen_at(seen, path), None))
        .filter(|change| change.before != Seen::Absent)
        .collect()
}

/// What is at unwanted paths of a claim and was not made from here, in words: it stays.
pub fn left_there(claim: &Claim, seen: &Observation, wanted_by_anyone: &BTreeSet<&Utf8Path>) -> Vec<String> {
    let others =
        unwanted_paths(claim, wanted_by_anyone).filter(|(path, written)| is_another(written, seen.paths.get(*path)));
    let words =
        |written: &Written| if written.is_directory() { "is no directory any more" } else { "is a directory now" };
    others.map(|(path, written)| format!("{path} {}: it stays, no longer ours", words(written))).collect()
}

fn unwanted_paths<'a>(
    claim: &'a Claim,
    wanted_by_anyone: &'a BTreeSet<&Utf8Path>,
) -> impl Iterator<Item = (&'a Utf8PathBuf, &'a Written)> {
    claim.paths.iter().rev().filter(|(path, _)| !is_wanted(path, wanted_by_anyone))
}

/// Whether somebody has put something else in the place of a directory that was made, or a directory in the place of
/// something else.
fn is_another(written: &Written, seen: Option<&Seen<PathSeen>>) -> bool {
    matches!(seen, Some(Seen::Present(seen)) if written.is_directory() != (seen.thing == Thing::Directory))
}

/// Whether a path, or anything below it, is wanted.
fn is_wanted(path: &Utf8Path, wanted_by_anyone: &BTreeSet<&Utf8Path>) -> bool {
    // Paths sort by components, so whatever lies below a path follows it directly.
    wanted_by_anyone.range(path..).next().is_some_and(|next| next.starts_with(path))
}

fn change(seen: &Observation, path: &Utf8Path, before: Seen<PathSeen>, after: Option<PathState>) -> PathChange {
    let before_content = seen.contents.get(path).cloned();
    PathChange { path: path.to_owned(), before, after, before_content, implied: false }
}

/// What was seen at a path; a path nobody asked for is unknown.
pub fn seen_at(seen: &Observation, path: &Utf8Path) -> Seen<PathSeen> {
    seen.paths.get(path).cloned().unwrap_or_else(|| Seen::Unknown("the host said nothing of it".into()))
}
