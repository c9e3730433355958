//! What is restarted or reloaded because of files of other stacks: those files come first, and what they ask for is not
//! forgotten where its own stack is not applied with them.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use crate::base::id::{Kind, StackName};
use crate::host::observation::Seen;
use crate::plan::compare::is_as_wanted;
use crate::plan::debts::{Owing, name_of, service_of};
use crate::plan::effect::Deed;
use crate::plan::host::Planner;
use crate::plan::project::{containers, is_at_work};
use crate::plan::wishes::is_active;
use crate::plan::{Change, Debt, Transaction};
use crate::resource::Resource;

impl Planner<'_> {
    /// Whether this run is about to change a path, for what a resource of some stack does then.
    pub(crate) fn is_to_change(&self, path: &Utf8Path, for_stack: &StackName) -> bool {
        self.about_to_change(for_stack, |other| other == path)
    }

    /// The same of a path, or anything in a folder.
    pub(crate) fn is_to_change_within(&self, path: &Utf8Path, for_stack: &StackName) -> bool {
        self.about_to_change(for_stack, |other| other.starts_with(path))
    }

    fn about_to_change(&self, for_stack: &StackName, meant: impl Fn(&Utf8Path) -> bool) -> bool {
        self.desired.resources.iter().any(|resource| {
            let mut meant = resource.state.paths.iter().filter(|(path, _)| meant(path));
            let differs = meant.any(|(path, wanted)| {
                let seen = self.seen.paths.get(path).unwrap_or(&Seen::Absent);
                !is_as_wanted(wanted, seen, self.with_owner())
            });
            differs && (resource.stack == *for_stack || self.takes_place(&resource.stack))
        })
    }

    /// Whether what a stack wants is done in this run, as far as that can be told beforehand.
    fn takes_place(&self, stack: &StackName) -> bool {
        let mut own = self.desired.resources.iter().filter(|resource| resource.stack == *stack);
        let refused = |resource: &Resource| {
            let claim = self.ownership.claim(&resource.id, &resource.stack);
            self.policy.refused.contains_key(&resource.id) || self.refusal(resource, claim).is_some()
        };
        self.policy.selects(stack) && !self.seen.holds.contains_key(stack.as_str()) && !own.any(refused)
    }

    /// What units and containers of other stacks owe once these changes are made.
    pub(super) fn debts_of_others(&self, stack: &StackName, changes: &[Change]) -> Vec<Debt> {
        if self.policy.offline {
            return Vec::new();
        }
        let paths: BTreeSet<&Utf8Path> = written(changes).collect();
        let others = self.desired.resources.iter().filter(|resource| resource.stack != *stack);
        let debts = others.flat_map(|resource| {
            let owing = watching(resource, &paths).into_iter();
            let (id, stack) = (&resource.id, &resource.stack);
            let debts = owing.flat_map(|Owing { verb, debtors }| {
                debtors.into_iter().map(move |unit| Debt {
                    unit,
                    verb: verb.clone(),
                    id: id.clone(),
                    stack: stack.clone(),
                })
            });
            debts.filter(|debt| self.is_at_work(&debt.unit)).collect::<Vec<_>>()
        });
        debts.collect::<BTreeSet<Debt>>().into_iter().collect()
    }

    /// Whether a debtor goes on with older files.
    fn is_at_work(&self, debtor: &str) -> bool {
        match service_of(debtor) {
            Some((project, service)) => {
                containers(self, project).iter().any(|seen| seen.service == service && is_at_work(seen))
            }
            None => self.seen.units.get(debtor).is_some_and(is_active),
        }
    }

    /// Sorts transactions so that each comes after those it needs, and after those whose files it watches.
    pub(super) fn sort(&self, transactions: &mut Vec<Transaction>) {
        let mut rest = std::mem::take(transactions);
        let watched = self.watched(&rest);
        while !rest.is_empty() {
            let waiting: BTreeSet<StackName> = rest.iter().map(|transaction| transaction.stack.clone()).collect();
            let is_ready = |transaction: &Transaction| transaction.needs.is_disjoint(&waiting);
            let is_free = |transaction: &Transaction| watched[&transaction.stack].is_disjoint(&waiting);
            // Loading refuses cycles of needs, so something is always ready; the first one otherwise.
            let next = rest.iter().position(|transaction| is_ready(transaction) && is_free(transaction));
            let next = next.or_else(|| rest.iter().position(is_ready)).unwrap_or(0);
            transactions.push(rest.remove(next));
        }
    }

    /// Whether a stack has something that is restarted or reloaded because of these changes.
    pub(super) fn watches(&self, stack: &StackName, changes: &[Change]) -> bool {
        let paths: BTreeSet<&Utf8Path> = written(changes).collect();
        let mut own = self.desired.resources.iter().filter(|resource| resource.stack == *stack);
        own.any(|resource| !watching(resource, &paths).is_empty())
    }

    /// For each stack, the others whose files its resources watch, of those that change.
    fn watched(&self, transactions: &[Transaction]) -> BTreeMap<StackName, BTreeSet<StackName>> {
        let mut watched: BTreeMap<StackName, BTreeSet<StackName>> =
            transactions.iter().map(|transaction| (transaction.stack.clone(), BTreeSet::new())).collect();
        for transaction in transactions {
            let paths: BTreeSet<&Utf8Path> = written(&transaction.changes).collect();
            let others = self.desired.resources.iter().filter(|resource| resource.stack != transaction.stack);
            for resource in others.filter(|resource| !watching(resource, &paths).is_empty()) {
                if let Some(after) = watched.get_mut(&resource.stack) {
                    after.insert(transaction.stack.clone());
                }
            }
        }
        watched
    }
}

/// The paths that will be there.
fn written(changes: &[Change]) -> impl Iterator<Item = &Utf8Path> {
    let paths = changes.iter().flat_map(|change| &change.paths);
    paths.filter(|path| path.after.is_some()).map(|path| path.path.as_path())
}

/// What a resource restarts or reloads when one of these paths changes.
fn watching(resource: &Resource, paths: &BTreeSet<&Utf8Path>) -> Vec<Owing> {
    let colours = resource
        .colours
        .iter()
        .filter(|colours| colours.watched.iter().any(|watched| paths.iter().any(|path| path.starts_with(watched))));
    let both = colours.flat_map(|colours| colours.faces()).flat_map(|face| face.state.units.keys());
    let own = |unit: &&String| resource.id.kind == Kind::Unit && *unit != NGINX;
    let both = both.filter(own).map(|unit| Owing { verb: "restart".into(), debtors: vec![unit.clone()] });
    let reactions = resource.reactions.iter().filter(|reaction| {
        reaction.paths.iter().any(|path| !resource.state.paths.contains_key(path) && paths.contains(path.as_path()))
    });
    both.chain(reactions.filter_map(|reaction| Owing::to(&reaction.action))).collect()
}

const NGINX: &str = "nginx.service";

/// What is not done in this run although a file asks for it, for the reader.
pub(super) fn notes(transactions: &[Transaction]) -> Vec<String> {
    let done = |debt: &Debt| {
        let own = transactions.iter().filter(|other| other.held.is_none() && other.stack == debt.stack);
        own.into_iter().any(|other| {
            other.effects.iter().any(|effect| {
                effect.causes.contains(&debt.id)
                    && (effect.deed.units().contains(&debt.unit)
                        || Owing::of(&effect.deed).is_some_and(|owing| owing.debtors.contains(&debt.unit))
                        || matches!(effect.deed, Deed::Turn { .. } | Deed::ComposeUp { .. }))
            })
        })
    };
    let carried_out = transactions.iter().filter(|each| each.held.is_none() && each.refusal().is_none());
    let left = carried_out.flat_map(|transaction| &transaction.debts).filter(|debt| !done(debt));
    left.map(|debt| {
        let Debt { unit, verb, stack, .. } = debt;
        format!("{} runs with older files until {stack} is applied: a {verb} is owed", name_of(unit))
    })
    .collect()
}
