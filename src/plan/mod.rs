//! `Desired`, `Ledger`, `Observed` to `Plan`: a pure function, and plain data as its result.
//!
//! A plan lists every change with its cause and every effect it has on the host. Apply does exactly that and makes no
//! choice of its own.

mod after;
pub(crate) mod builds;
pub mod colours;
pub mod compare;
pub(crate) mod containers;
pub(crate) mod debts;
pub mod effect;
pub mod guard;
mod hold;
pub mod host;
mod images;
mod leave;
pub mod order;
mod project;
mod removals;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;
mod watch;
pub mod waves;
pub(crate) mod wishes;

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::base::diagnostic::Span;
use crate::base::digest::Digest;
use crate::base::id::{HostName, Kind, RepoId, ResourceId, StackName};
use crate::host::observation::{PathSeen, Seen};
use crate::ledger::keyed;
use crate::load::Extent;
use crate::resource::Check;
use crate::resource::state::PathState;
use effect::Effect;
use guard::{Hazard, Unless};
use waves::Waves;

/// What would be done to one host.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// The host.
    pub host: HostName,
    /// What is to be done, one transaction for each stack that has changes, in order.
    pub transactions: Vec<Transaction>,
    /// How many resources are as they should be.
    pub unchanged: usize,
    /// What the reader should know: what could not be checked beforehand and why, and the like.
    pub notes: Vec<String>,
    /// Runs that died on this host: apply first brings back what they left half done.
    pub unfinished: Vec<String>,
    /// What must not be done unless a person says so for this very plan. Until then nothing is done on this host.
    pub hazards: Vec<Hazard>,
    /// What happens together.
    pub extent: Extent,
    /// Nothing is activated there: files are written below a root directory.
    pub offline: bool,
    /// The key of keyed digests on this host.
    pub salt: String,
}

/// The changes of one stack on one host: they happen together or not at all.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The stack.
    pub stack: StackName,
    /// Who holds it back, since when and why: then nothing of it is done.
    pub held: Option<String>,
    /// Stacks whose transactions must go well before this one, of those that have one.
    pub needs: BTreeSet<StackName>,
    /// The changes, in the order in which they are made.
    pub changes: Vec<Change>,
    /// What activates them, in order. Each happens once however many changes ask for it.
    pub effects: Vec<Effect>,
    /// What must then be so.
    pub checks: Vec<(ResourceId, Check)>,
    /// What units of other stacks run with older files from then on.
    pub debts: Vec<Debt>,
    /// The stack's ledger as it was seen; `None` where it has none yet.
    pub ledger_seen: Option<Digest>,
    /// The ledger with all claims that this transaction may need, as text, which takes far less room than the claims do.
    pub ledger_before: Arc<str>,
    /// The ledger once it has gone well.
    pub ledger_after: Arc<str>,
}

/// What has to be restarted or reloaded because of a file of another stack. It is written down before the file is
/// switched, so that it comes about whatever becomes of the unit's own stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Debt {
    /// The unit, or the containers as `docker:PROJECT:SERVICE`.
    pub unit: String,
    /// `restart`, `recreate`, `reload`, or `signal` with its name.
    pub verb: String,
    /// The resource that asks for it.
    pub id: ResourceId,
    /// Its stack.
    pub stack: StackName,
}

/// What happens to one resource.
#[derive(Debug, Clone)]
pub struct Change {
    /// The resource.
    pub id: ResourceId,
    /// Its stack.
    pub stack: StackName,
    /// The line that describes it; `None` when it is no longer described.
    pub origin: Option<Span>,
    /// What is done, in a word.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// Its paths that change.
    pub paths: Vec<PathChange>,
    /// What is worth saying in the plan besides the paths, such as directives or services that changed.
    pub details: Vec<String>,
    /// Why it must not be done: then nothing of its transaction is.
    pub refused: Option<Refusal>,
}

impl Change {
    /// What tells it from all others on its host: a resource may go in several stacks.
    pub fn key(&self) -> (ResourceId, StackName) {
        (self.id.clone(), self.stack.clone())
    }
}

/// What is done to a resource, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It comes into being.
    Create,
    /// It is changed.
    Update,
    /// Its files stay; it is started, stopped, enabled, or restarted because a restart is owed.
    Activate,
    /// It goes away.
    Remove,
    /// It stays and becomes ours.
    Adopt,
}

/// Why a resource changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It is new in the repository.
    New,
    /// The repository says something else than before.
    Repository,
    /// Somebody changed the host.
    Drift,
    /// Both the repository and the host have changed.
    Both,
    /// It is no longer in the repository.
    Gone,
    /// An earlier run changed its files and did not get to the restart.
    Owed,
}

/// Why a change must not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What is in the way.
    pub why: String,
    /// What to do about it.
    pub hint: String,
}

/// What happens at one path.
#[derive(Debug, Clone)]
pub struct PathChange {
    /// The path.
    pub path: Utf8PathBuf,
    /// What was seen there.
    pub before: Seen<PathSeen>,
    /// What will be there; `None` if nothing.
    pub after: Option<PathState>,
    /// The former content, where it is known and may be shown.
    pub before_content: Option<Vec<u8>>,
    /// A directory that nobody describes, made because something lies in it. One that has come by then stays as it is.
    pub implied: bool,
}

/// Everything that would be done, to all hosts.
#[derive(Debug)]
pub struct Plan {
    /// The repository's id.
    pub repo: RepoId,
    /// One plan for each host that could be planned.
    pub hosts: Vec<Arc<HostPlan>>,
    /// In which order they are carried out.
    pub waves: Waves,
}

impl HostPlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty() && self.unfinished.is_empty()
    }

    /// Whether an apply does anything here.
    pub fn has_work(&self) -> bool {
        !self.unfinished.is_empty() || self.carried_out().next().is_some()
    }

    /// The transactions that are to be carried out: those that are not held back, of which nothing is refused, and that
    /// come after none that is; or none at all where everything on the host happens together and something is refused.
    pub fn carried_out(&self) -> impl Iterator<Item = &Transaction> {
        let mut refused: BTreeSet<&StackName> = BTreeSet::new();
        let free: Vec<&Transaction> = self.transactions.iter().filter(|each| each.held.is_none()).collect();
        for each in &free {
            if each.refusal().is_some() || each.needs.iter().any(|need| refused.contains(need)) {
                refused.insert(&each.stack);
            }
        }
        let none = self.extent == Extent::Host && !refused.is_empty();
        free.into_iter().filter(move |each| !none && !refused.contains(&each.stack))
    }

    /// The hazards that only an override lifts; `confirmed` says that the host goes back by itself if it is not reached
    /// again.
    pub fn held(&self, confirmed: bool) -> impl Iterator<Item = &Hazard> {
        self.hazards.iter().filter(move |hazard| !(confirmed && hazard.unless == Unless::Confirmed))
    }

    /// All changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.transactions.iter().flat_map(|transaction| &transaction.changes)
    }

    /// All effects, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.transactions.iter().flat_map(|transaction| &transaction.effects)
    }
}

impl Transaction {
    /// The first reason why this transaction must not be carried out.
    pub fn refusal(&self) -> Option<(&Change, &Refusal)> {
        self.changes.iter().find_map(|change| Some((change, change.refused.as_ref()?)))
    }
}

impl Plan {
    /// Whether nothing is to be done anywhere.
    pub fn is_empty(&self) -> bool {
        self.hosts.iter().all(|host| host.is_empty())
    }

    /// The plan's digest: the same for two plans that would do the same to the same state, and for no others.
    pub fn digest(&self) -> Digest {
        let mut lines = vec![format!("plan 2 {}", self.repo)];
        for host in &self.hosts {
            lines.push(format!("host {} {:?} {:?} {:?}", host.host, host.unfinished, host.extent, host.hazards));
            for transaction in &host.transactions {
                lines
                    .push(format!("stack {} {:?} {:?}", transaction.stack, transaction.ledger_seen, transaction.needs));
                lines.extend(transaction.held.as_ref().map(|_| "held".to_string()));
                lines.extend(transaction.changes.iter().flat_map(|change| change_lines(change, &host.salt)));
                lines.extend(transaction.effects.iter().map(|effect| format!("{:?}", effect.deed)));
                lines.extend(transaction.checks.iter().map(|(id, check)| format!("{id} {check:?}")));
                lines.extend(transaction.debts.iter().map(|debt| format!("{debt:?}")));
            }
        }
        lines.extend(self.waves.lines());
        Digest::of(lines.join("\n").as_bytes())
    }
}

/// A plan's digest is shown to anybody, so even digests of secrets go into it only under the host's key.
fn change_lines(change: &Change, salt: &str) -> Vec<String> {
    let mut lines = vec![format!("{} {:?} {:?}", change.id, change.action, change.refused)];
    for path in &change.paths {
        let before = match &path.before {
            Seen::Present(seen) => {
                let digest = seen.digest().map(|digest| keyed(salt, digest).to_string());
                format!("{} {digest:?} {:?}", seen.stat_line(&path.path), seen.link_target())
            }
            other => format!("{other:?}"),
        };
        let after = match &path.after {
            Some(PathState::File { content, mode, owner }) => {
                format!("{} {mode:o} {owner:?}", keyed(salt, content.digest))
            }
            other => format!("{other:?}"),
        };
        lines.push(format!("{} {} {before} {after}", path.path, path.implied));
    }
    lines
}

/// The order in which kinds are listed and applied where nothing else decides.
pub(crate) fn rank(kind: Kind) -> usize {
    Kind::ALL.iter().position(|other| *other == kind).unwrap_or(Kind::ALL.len())
}

#[cfg(test)]
mod digests {
    use super::*;
    use crate::plan::tests::{HOST, config, plan_of};

    #[test]
    fn g01_a_plan_for_another_path_has_another_digest() {
        let plan = plan_of(&config(HOST, &[]), &config(HOST, &[("a", "file \"/srv/a/one\" content=\"x\"")]), true);
        let lines = |rename: &dyn Fn(&mut PathChange)| {
            let mut change = plan.changes().next().expect("a file").clone();
            change.paths.iter_mut().for_each(rename);
            change_lines(&change, "")
        };
        let is = lines(&|_| ());
        assert_ne!(is, lines(&|path| path.path = path.path.with_file_name("other")));
        assert_ne!(is, lines(&|path| path.implied = !path.implied));
    }
}
