//! What a run did: every resource ends as exactly one outcome, and the same words are used everywhere.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::error::{Error, Kind};
use crate::base::id::{HostName, ResourceId, StackName};

/// How a resource ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was as it should be.
    Unchanged,
    /// It was changed as planned.
    Applied,
    /// It could not be changed, and was left as the report says.
    Failed,
    /// It was changed, something then failed, and it was brought back.
    RolledBack,
    /// It was not tried, because something it depends on failed or was refused.
    Blocked,
    /// Its host could not be reached.
    Unreachable,
    /// It is held back on purpose.
    Held,
    /// It was not part of this run.
    Skipped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 8] = [
        Outcome::Unchanged,
        Outcome::Applied,
        Outcome::Failed,
        Outcome::RolledBack,
        Outcome::Blocked,
        Outcome::Unreachable,
        Outcome::Held,
        Outcome::Skipped,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Unchanged => "unchanged",
            Outcome::Applied => "applied",
            Outcome::Failed => "failed",
            Outcome::RolledBack => "rolled-back",
            Outcome::Blocked => "blocked",
            Outcome::Unreachable => "unreachable",
            Outcome::Held => "held",
            Outcome::Skipped => "skipped",
        }
    }

    /// The outcome that a word means.
    pub fn parse(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// Whether it counts as a failure of the run.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::RolledBack | Outcome::Blocked | Outcome::Unreachable)
    }

    /// How bad it is, for what ended in several ways.
    fn weight(self) -> u8 {
        match self {
            Outcome::Unchanged => 0,
            Outcome::Applied => 1,
            Outcome::Held | Outcome::Skipped => 2,
            Outcome::Blocked | Outcome::Unreachable => 3,
            Outcome::RolledBack => 4,
            Outcome::Failed => 5,
        }
    }
}

/// What a whole run did.
#[derive(Debug, Default)]
pub struct Report {
    /// One report for each host that took part.
    pub hosts: Vec<HostReport>,
}

/// What a run did on one host.
#[derive(Debug)]
pub struct HostReport {
    /// The host.
    pub host: HostName,
    /// How each resource ended, by the stack in which it did: one that has moved and goes, goes in several.
    pub outcomes: BTreeMap<(ResourceId, StackName), Outcome>,
    /// What the reader should know of it: the notes of its plan.
    pub notes: Vec<String>,
    /// What failed, for each stack that did not end well.
    pub failures: Vec<StackFailure>,
    /// Whether it may be neither as planned nor as it was before.
    pub unwell: bool,
    /// What kept the host from taking part at all.
    pub error: Option<Error>,
}

/// Why a stack's transaction did not go well on a host.
#[derive(Debug, Clone, Serialize)]
pub struct StackFailure {
    /// The stack.
    pub stack: StackName,
    /// How it ended.
    pub outcome: Outcome,
    /// What failed, such as `restart go-api`.
    pub what: String,
    /// The last lines it said.
    pub output: Vec<String>,
}

impl HostReport {
    /// The report of a host on which nothing has ended yet.
    pub fn new(host: HostName) -> Self {
        HostReport {
            host,
            outcomes: BTreeMap::new(),
            notes: Vec::new(),
            failures: Vec::new(),
            unwell: false,
            error: None,
        }
    }

    /// How each resource ended, which is as badly as it did in any stack.
    pub fn resources(&self) -> BTreeMap<&ResourceId, Outcome> {
        let mut all = BTreeMap::new();
        for ((id, _), outcome) in &self.outcomes {
            let worst = all.entry(id).or_insert(*outcome);
            if outcome.weight() > worst.weight() {
                *worst = *outcome;
            }
        }
        all
    }

    /// How many resources ended in a way.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.resources().into_values().filter(|other| *other == outcome).count()
    }

    /// Whether something of a stack was changed as planned.
    pub fn has_applied(&self, stack: &StackName) -> bool {
        self.outcomes.iter().any(|((_, of), outcome)| of == stack && *outcome == Outcome::Applied)
    }

    /// Whether something went wrong, and all of that was brought back or not begun because of it.
    pub fn is_brought_back(&self) -> bool {
        let wrong = || self.outcomes.values().filter(|outcome| outcome.is_failure());
        self.error.is_none()
            && wrong().any(|outcome| *outcome == Outcome::RolledBack)
            && wrong().all(|outcome| matches!(outcome, Outcome::RolledBack | Outcome::Blocked))
    }

    /// Whether nothing was begun, because the rollout stopped before.
    pub fn is_not_begun(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind == Kind::Stopped)
    }

    /// Whether it counts against a rollout: something failed, went back, or could not be reached.
    pub fn has_failed(&self) -> bool {
        let counts =
            |outcome: &Outcome| matches!(outcome, Outcome::Failed | Outcome::RolledBack | Outcome::Unreachable);
        let aside =
            |error: &Error| matches!(error.kind, Kind::Interrupted | Kind::Locked | Kind::Refused | Kind::Stopped);
        self.outcomes.values().any(counts) || self.error.as_ref().is_some_and(|error| !aside(error))
    }

    /// Whether everything went well.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && !self.outcomes.values().any(|outcome| outcome.is_failure())
    }
}

impl Report {
    /// Whether something was not begun because the person wanted to stop.
    pub fn is_interrupted(&self) -> bool {
        let interrupted = |error: &Error| error.kind == Kind::Interrupted;
        self.hosts.iter().any(|host| host.error.as_ref().is_some_and(interrupted))
    }

    /// The exit code of a run: 0 for success, 1 for failure, 3 where some hosts are done and some are not, 4 where none
    /// is, and all that went wrong was brought back.
    pub fn exit_code(&self) -> u8 {
        let good = self.hosts.iter().filter(|host| host.is_good()).count();
        let mut begun = self.hosts.iter().filter(|host| !host.is_not_begun()).peekable();
        match good {
            good if good == self.hosts.len() => 0,
            0 if begun.peek().is_some() && begun.all(HostReport::is_brought_back) => 4,
            0 => 1,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str, stack: &str) -> (ResourceId, StackName) {
        (id.parse().unwrap(), StackName::new(stack).unwrap())
    }

    fn host(number: usize, outcomes: &[Outcome]) -> HostReport {
        let outcomes = outcomes.iter().enumerate().map(|(n, o)| (of(&format!("file:/{n}"), "web"), *o)).collect();
        HostReport { outcomes, ..HostReport::new(HostName::new(format!("h{number}")).unwrap()) }
    }

    fn code(hosts: &[&[Outcome]]) -> u8 {
        Report { hosts: hosts.iter().enumerate().map(|(number, outcomes)| host(number, outcomes)).collect() }
            .exit_code()
    }

    #[test]
    fn what_ends_in_several_stacks_has_ended_as_badly_as_in_any() {
        use Outcome::{Applied, Blocked, Failed, Held, RolledBack, Skipped};
        for worst in [Failed, RolledBack, Blocked, Held, Skipped] {
            for (moved_from, moved_to) in [("a", "z"), ("z", "a")] {
                let ways = [(moved_from, Applied), (moved_to, worst)].map(|(stack, how)| (of("file:/x", stack), how));
                let report = HostReport { outcomes: BTreeMap::from(ways), ..host(0, &[]) };
                assert_eq!(report.resources().into_values().collect::<Vec<_>>(), [worst]);
                assert_eq!((report.count(Applied), report.count(worst)), (0, 1));
                assert_eq!(report.is_good(), !worst.is_failure(), "{worst:?}");
                assert!(!report.has_applied(&StackName::new(moved_to).unwrap()));
            }
        }
    }

    #[test]
    fn g07_what_was_rolled_back_has_an_exit_code_of_its_own() {
        use Outcome::{Applied, Blocked, Failed, RolledBack, Unchanged};
        for (hosts, expected) in [
            (&[&[Applied, Unchanged][..]][..], 0),
            (&[&[RolledBack, Unchanged]], 4),
            (&[&[RolledBack, Blocked], &[RolledBack]], 4),
            (&[&[RolledBack], &[Failed]], 1),
            (&[&[RolledBack, Failed]], 1),
            (&[&[Blocked]], 1),
            (&[&[RolledBack], &[Applied]], 3),
        ] {
            assert_eq!(code(hosts), expected, "{hosts:?}");
        }
        // Each by itself.
        let codes = Outcome::ALL.map(|outcome| (outcome.as_str(), code(&[&[outcome]])));
        let (good, bad) = (["unchanged", "applied", "held", "skipped"], ["failed", "blocked", "unreachable"]);
        for (word, code) in codes {
            let expected = if good.contains(&word) {
                0
            } else if bad.contains(&word) {
                1
            } else {
                4
            };
            assert_eq!(code, expected, "{word}");
        }
    }
}
