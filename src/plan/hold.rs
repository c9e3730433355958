//! What is held back on purpose: planned and shown, and not done.

use std::collections::BTreeSet;

use crate::base::id::StackName;
use crate::host::hold::Hold;
use crate::host::observation::Observation;
use crate::plan::Transaction;

/// Marks the transactions that are held back: those of held stacks, and those that come after one. Each stands after
/// those it needs.
pub(super) fn hold_back(transactions: &mut [Transaction], seen: &Observation) {
    let mut held: BTreeSet<StackName> = BTreeSet::new();
    for transaction in transactions {
        let after = transaction.needs.intersection(&held).next();
        let own = seen.holds.get(transaction.stack.as_str()).map(Hold::words);
        transaction.held = own.or_else(|| after.map(|stack| format!("held: it comes after {stack}, which is held")));
        if transaction.held.is_some() {
            held.insert(transaction.stack.clone());
        }
    }
}

/// What is held back, for the reader: also where nothing of it would change.
pub(super) fn notes(seen: &Observation, selects: impl Fn(&StackName) -> bool) -> impl Iterator<Item = String> {
    let known = seen.holds.iter().filter_map(|(stack, hold)| Some((StackName::new(stack).ok()?, hold)));
    known.filter(move |(stack, _)| selects(stack)).map(|(stack, hold)| format!("the stack {stack} is {}", hold.words()))
}
