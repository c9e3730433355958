//! Trying candidates: they are loaded and planned like any stack before they are written, and what would change anything
//! is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::host::transport::Nobody;
use crate::sealed::World;
use camino::{Utf8Path, Utf8PathBuf};

use crate::adopt::{Candidate, LeftOut, stack_files};
use crate::base::error::{Error, Result};
use crate::base::id::{HostName, ResourceId, StackName};
use crate::host::observation::Seen;
use crate::load::{self, Config, Secrets};
use crate::plan::{Action, Change, HostPlan, PathChange, Transaction};
use crate::render::render;
use crate::resource::state::PathState;
use crate::source::Files;

/// A stack on its way into a repository.
pub struct Trial<'a> {
    /// The repository as it is.
    pub files: &'a Files,
    /// The stack.
    pub stack: &'a StackName,
    /// The host.
    pub host: &'a HostName,
}

impl Trial<'_> {
    /// The repository as it would be with these candidates.
    pub fn config(&self, candidates: &[Candidate]) -> Result<Config> {
        let files = with_files(self.files, stack_files(self.stack, self.host, candidates));
        let outside = |_: &Utf8Path| Err(std::io::ErrorKind::NotFound.into());
        let world = World { env: &|_| None, read: &outside, prompt: &Nobody, identities: &[] };
        let (config, _) = load::load(&files, world, Secrets::Placeholder)?;
        let problems = render(&config, self.host, None).problems;
        if problems.errors() > 0 { Err(Error::problems(problems)) } else { Ok(config) }
    }

    /// Leaves out what the language refuses, and gives the repository with the rest. It is an error of the repository if
    /// it is refused with none of them.
    pub fn fit(&self, candidates: Vec<Candidate>) -> Result<(Vec<Candidate>, Vec<LeftOut>)> {
        if self.config(&candidates).is_ok() {
            return Ok((candidates, Vec::new()));
        }
        self.config(&[])?;
        let (mut fitting, mut left_out) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let id = candidate.id.clone();
            fitting.push(candidate);
            if let Err(error) = self.config(&fitting) {
                fitting.pop();
                let problem = error.problems.0.iter().find(|problem| !problem.places.is_empty());
                let why = problem.map_or(error.what.clone(), |problem| problem.message.clone());
                left_out.push(LeftOut { what: id.to_string(), why: format!("it cannot be described: {why}") });
            }
        }
        Ok((fitting, left_out))
    }

    /// Leaves out what would change anything but its owner.
    pub fn judge(&self, candidates: Vec<Candidate>, plan: &HostPlan) -> (Vec<Candidate>, Vec<LeftOut>) {
        let mut reasons: BTreeMap<&ResourceId, String> = BTreeMap::new();
        for transaction in plan.transactions.iter().filter(|each| each.stack == *self.stack) {
            for change in &transaction.changes {
                reasons.extend(reason(transaction, change).map(|why| (&change.id, why)));
            }
        }
        let (out, kept): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|each| reasons.contains_key(&each.id));
        let out = out.iter().map(|each| LeftOut { what: each.id.to_string(), why: reasons[&each.id].clone() });
        (kept, out.collect())
    }
}

/// Files with more files among them.
pub fn with_files(files: &Files, more: BTreeMap<Utf8PathBuf, Vec<u8>>) -> Files {
    let mut files = files.clone();
    files.extend(more.into_iter().map(|(path, bytes)| (path, Arc::from(bytes))));
    files
}

/// How a path is not as its kind has it: what is in it is the same.
fn difference(path: &PathChange) -> String {
    let (Seen::Present(seen), Some(PathState::File { mode, owner, .. })) = (&path.before, &path.after) else {
        return "it is none that can be described".into();
    };
    let is = format!("{:04o} {}:{}", seen.mode, seen.owner.user, seen.owner.group);
    format!(
        "it is {is} there, and such files are {mode:04o} {}:{}. `chmod` or `chown` it first",
        owner.user, owner.group
    )
}

/// What a change would do besides giving its resource an owner.
fn reason(transaction: &Transaction, change: &Change) -> Option<String> {
    if let Some(refusal) = &change.refused {
        return Some(format!("{}: {}", refusal.why, refusal.hint));
    }
    if let Some(path) = change.paths.first() {
        return Some(format!("{} would be changed: {}", path.path, difference(path)));
    }
    if let Some(effect) = transaction.effects.iter().find(|effect| effect.causes.contains(&change.id)) {
        return Some(format!("to adopt it would {}: mend that first", effect.deed.words()));
    }
    (change.action != Action::Adopt).then(|| "it would change".into())
}
