//! What a plan must not do unless a person says so for that very plan: more than the limits allow, taking away the
//! last of something, or laying hands on what lets us and others in.

mod protected;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::id::{Kind, StackName};
use crate::plan::compare::Ownership;
use crate::plan::effect::Deed;
use crate::plan::host::Policy;
use crate::plan::{Action, Change, Transaction};
use crate::resource::Desired;
use protected::{is_protected_path, is_protected_unit};

/// A reason not to apply a host's plan just like that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hazard {
    /// What the plan would do, such as `would remove 31 of 40 resources`.
    pub what: String,
    /// What makes it bearable.
    pub unless: Unless,
}

/// What makes a hazard bearable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unless {
    /// Only that a person names the plan's digest.
    Overridden,
    /// Also that the host goes back by itself if it is not reached again.
    Confirmed,
}

/// From so many resources on, the share of those removed counts.
const MANY: usize = 10;

/// Everything about the transactions of one host that needs a person, in the order in which it weighs.
pub(crate) fn hazards(
    transactions: &[Transaction],
    desired: &Desired,
    ownership: &Ownership,
    policy: &Policy<'_>,
) -> Vec<Hazard> {
    let done: Vec<&Transaction> =
        transactions.iter().filter(|each| each.refusal().is_none() && each.held.is_none()).collect();
    let mut hazards: Vec<Hazard> = too_many_removals(&done, desired, ownership, policy).into_iter().collect();
    hazards.extend(emptied_stacks(&done, desired, ownership, policy));
    hazards.extend(too_many_restarts(&done, policy));
    if !policy.offline {
        hazards.extend(done.iter().flat_map(|transaction| lost_protection(transaction)));
        hazards.extend(done.iter().flat_map(|transaction| touched_protection(transaction, policy.goes_back)));
    }
    hazards
}

fn overridden(what: String) -> Hazard {
    Hazard { what, unless: Unless::Overridden }
}

/// Whether a change takes something away. Packages stay installed, and a claim that no longer counts is only forgotten.
fn removes(change: &Change, ownership: &Ownership) -> bool {
    let counts = ownership.own.get(&change.stack).is_some_and(|ledger| ledger.claims.contains_key(&change.id));
    change.action == Action::Remove && change.id.kind != Kind::Packages && counts
}

fn too_many_removals(
    done: &[&Transaction],
    desired: &Desired,
    ownership: &Ownership,
    policy: &Policy<'_>,
) -> Option<Hazard> {
    let removed = done.iter().flat_map(|each| &each.changes).filter(|change| removes(change, ownership)).count();
    let owned = ownership.own.values().flat_map(|ledger| ledger.claims.keys());
    let owned = owned.filter(|id| id.kind != Kind::Packages).count();
    let limits = policy.limits;
    let why = match removed {
        0 => return None,
        _ if desired.resources.is_empty() => "nothing is wanted on this host any more".into(),
        _ if removed > limits.deletions => format!("the limit is {}", limits.deletions),
        _ if owned >= MANY && removed * 100 > limits.share * owned => format!("the limit is {} %", limits.share),
        _ => return None,
    };
    Some(overridden(format!("would remove {removed} of {owned} resources: {why}")))
}

/// Stacks that are still for this host, and have come to nothing: more likely a slip than a wish.
fn emptied_stacks(done: &[&Transaction], desired: &Desired, ownership: &Ownership, policy: &Policy<'_>) -> Vec<Hazard> {
    if desired.resources.is_empty() {
        return Vec::new();
    }
    let mut emptied: BTreeMap<&StackName, usize> = BTreeMap::new();
    for change in done.iter().flat_map(|each| &each.changes).filter(|change| removes(change, ownership)) {
        let is_empty = !desired.resources.iter().any(|resource| resource.stack == change.stack);
        if is_empty && policy.here.contains(&change.stack) {
            *emptied.entry(&change.stack).or_default() += 1;
        }
    }
    let hazard = |(stack, number): (&StackName, usize)| {
        let all = if number == 1 { "its only resource".into() } else { format!("all {number} resources of it") };
        overridden(format!("would remove {all}: the stack `{stack}` is for this host, but comes to nothing here"))
    };
    emptied.into_iter().map(hazard).collect()
}

fn too_many_restarts(done: &[&Transaction], policy: &Policy<'_>) -> Option<Hazard> {
    let restarts = done.iter().flat_map(|each| &each.effects).map(|effect| match &effect.deed {
        Deed::Restart { units } => units.len(),
        Deed::ContainerRestart { services, .. } | Deed::ContainerRecreate { services, .. } => services.len(),
        Deed::ComposeUp { recreate, .. } => recreate.len(),
        _ => 0,
    });
    let (restarts, most) = (restarts.sum::<usize>(), policy.limits.restarts);
    let what = || overridden(format!("would restart {restarts} units and containers: the limit is {most}"));
    (restarts > most).then(what)
}

/// What is protected and would go away.
fn lost_protection(transaction: &Transaction) -> Vec<Hazard> {
    let paths = transaction.changes.iter().flat_map(|change| &change.paths);
    let gone = paths.filter(|path| path.after.is_none() && is_protected_path(&path.path));
    let mut hazards: Vec<Hazard> =
        gone.map(|path| overridden(format!("would remove {}, which is protected", path.path))).collect();
    for effect in &transaction.effects {
        let verb = match effect.deed {
            Deed::Stop { .. } => "stop",
            Deed::Disable { .. } => "disable",
            _ => continue,
        };
        let units = effect.deed.units().iter().filter(|unit| is_protected_unit(unit));
        hazards.extend(units.map(|unit| overridden(format!("would {verb} {unit}, which is protected"))));
    }
    hazards
}

/// What is protected and would change: bearable where the host goes back by itself if that cuts us off.
fn touched_protection(transaction: &Transaction, goes_back: bool) -> Vec<Hazard> {
    let unless = if goes_back { Unless::Confirmed } else { Unless::Overridden };
    let paths = transaction.changes.iter().flat_map(|change| &change.paths);
    let written = paths.filter(|path| path.after.is_some() && is_protected_path(&path.path));
    let mut hazards: Vec<Hazard> =
        written.map(|path| Hazard { what: format!("would write {}, which is protected", path.path), unless }).collect();
    for effect in &transaction.effects {
        let verb = match effect.deed {
            Deed::Restart { .. } => "restart",
            Deed::Reload { .. } => "reload",
            Deed::Signal { .. } => "signal",
            _ => continue,
        };
        let units = effect.deed.units().iter().filter(|unit| is_protected_unit(unit));
        hazards.extend(units.map(|unit| Hazard { what: format!("would {verb} {unit}, which is protected"), unless }));
    }
    hazards
}
