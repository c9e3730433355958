//! What programs on a host say may be what they were given. It goes no further than this without the secrets of
//! the repository masked in it.

use std::collections::BTreeMap;

use crate::base::error::{Error, Kind};
use crate::base::mask::Mask;
use crate::base::secret::SecretTree;
use crate::engine::Setup;
use crate::engine::report::StackFailure;
use crate::plan::HostPlan;

/// Hides every secret of the repository.
pub(super) fn mask(setup: &Setup) -> Mask {
    let stacks = || setup.config.stacks.values();
    let all = stacks().flat_map(|stack| stack.secrets.values());
    let own = stacks().flat_map(|stack| stack.host_secrets.values().flat_map(BTreeMap::values));
    Mask::of(all.chain(own).flat_map(SecretTree::leaves))
}

/// Hides them in what units and containers wrote to their logs.
pub(super) fn in_failures(setup: &Setup, failures: &mut [StackFailure]) {
    if failures.is_empty() {
        return;
    }
    let mask = mask(setup);
    for failure in failures {
        mask.hide(&mut failure.what);
        failure.output.iter_mut().for_each(|line| mask.hide(line));
    }
}

/// Hides them in what validators said of a candidate: they repeat the line that they do not like.
pub(super) fn in_plan(setup: &Setup, plan: &mut HostPlan) {
    let changes = plan.transactions.iter_mut().flat_map(|transaction| &mut transaction.changes);
    let details = changes
        .flat_map(|change| change.details.iter_mut().chain(change.refused.as_mut().map(|refusal| &mut refusal.why)));
    let mut said = details.chain(&mut plan.notes).peekable();
    if said.peek().is_some() {
        let mask = mask(setup);
        said.for_each(|text| mask.hide(text));
    }
}

/// Hides them in what a host answered in place of what was asked.
pub(super) fn in_error(setup: &Setup, mut error: Error) -> Error {
    if error.kind == Kind::Host {
        let mask = mask(setup);
        mask.hide(&mut error.what);
        error.hint.iter_mut().for_each(|hint| mask.hide(hint));
        error.cause = error.cause.map(|cause| mask.line(&cause.to_string()).into());
    }
    error
}
