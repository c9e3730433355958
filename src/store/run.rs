//! What is known of a run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::id::ResourceId;
use crate::engine::report::Outcome;

/// What is known of a run when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beginning {
    /// Its id.
    pub id: String,
    /// The id of the repository.
    pub repo: String,
    /// The repository's directory or URL, without a password.
    pub source: String,
    /// The commit.
    pub commit: Option<String>,
    /// The branch or tag.
    pub branch: Option<String>,
    /// Who wrote the commit, as it claims.
    pub author: Option<String>,
    /// Whose good signature the commit bears.
    pub signer: Option<String>,
    /// How many files differed from the commit.
    pub dirty: usize,
    /// The plan's digest.
    pub plan: String,
    /// Who ran it, and where.
    pub who: String,
    /// What it was asked to be about.
    pub asked: Asked,
    /// Whether no stack of its hosts was left out.
    pub whole: bool,
    /// A rollback: it went back to the state before this run.
    pub before: Option<String>,
}

/// `--host`, `--stack` and `--tag`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Hosts.
    pub hosts: Vec<String>,
    /// Stacks.
    pub stacks: Vec<String>,
    /// Tags of hosts.
    pub tags: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything went well.
    Done,
    /// Some hosts are done and some are not.
    Partly,
    /// No host went well.
    Failed,
    /// No host went well, and all that went wrong was brought back.
    RolledBack,
    /// It was refused as a whole; nothing was changed.
    Refused,
    /// It was stopped, or it was killed: then what its hosts did is not known here.
    Interrupted,
    /// It has not ended yet.
    AtWork,
}

impl Ending {
    /// Every ending that can be written down.
    const WRITTEN: [Ending; 6] =
        [Ending::Done, Ending::Partly, Ending::Failed, Ending::RolledBack, Ending::Refused, Ending::Interrupted];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Partly => "partly",
            Ending::Failed => "failed",
            Ending::RolledBack => "rolled-back",
            Ending::Refused => "refused",
            Ending::Interrupted => "interrupted",
            Ending::AtWork => "at-work",
        }
    }

    /// The ending that a word means.
    pub(super) fn parse(word: &str) -> Option<Ending> {
        Ending::WRITTEN.into_iter().find(|ending| ending.as_str() == word)
    }
}

/// A run as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What was known when it began.
    #[serde(flatten)]
    pub beginning: Beginning,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended; nothing of a run that is at work or was killed.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub ending: Ending,
    /// Why it was refused.
    pub error: Option<String>,
    /// Stacks on hosts.
    pub parts: Vec<Part>,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// A stack on a host, in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The host.
    pub host: String,
    /// The stack.
    pub stack: String,
    /// How many resources were as wanted; `None` where it is not known how it ended.
    pub unchanged: Option<usize>,
    /// How the others ended.
    pub outcomes: BTreeMap<Name, Outcome>,
    /// What was to be done to what runs.
    pub effects: Vec<String>,
}

/// A resource's id, as it is recorded: kinds may come and go.
type Name = String;

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The host.
    pub host: String,
    /// The stack; `None` for the host as a whole.
    pub stack: Option<String>,
    /// What failed.
    pub what: String,
    /// The last lines it said.
    pub output: Vec<String>,
}

/// Which runs are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this repository.
    pub repo: Option<String>,
    /// Only those with one of these hosts.
    pub hosts: Vec<String>,
    /// Only those with one of these stacks.
    pub stacks: Vec<String>,
    /// At most so many.
    pub limit: usize,
}

impl Part {
    /// Whether anything may have been changed.
    pub fn is_touched(&self) -> bool {
        let touched = |outcome: &Outcome| matches!(outcome, Outcome::Applied | Outcome::Failed | Outcome::RolledBack);
        self.unchanged.is_none() || self.outcomes.values().any(touched)
    }
}

impl Run {
    /// How many resources ended in each way. Those of which it is not known are not counted.
    pub fn counts(&self) -> BTreeMap<Outcome, usize> {
        let mut counts = BTreeMap::new();
        for part in &self.parts {
            *counts.entry(Outcome::Unchanged).or_default() += part.unchanged.unwrap_or(0);
            part.outcomes.values().for_each(|outcome| *counts.entry(*outcome).or_default() += 1);
        }
        counts.retain(|_, count| *count > 0);
        counts
    }
}

/// A resource's name as it is recorded.
pub(super) fn name(id: &ResourceId) -> Name {
    id.to_string()
}
