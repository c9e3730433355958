//! The one error type. Its [`Kind`] alone decides the exit code and whether a retry makes sense.

use std::fmt;

use crate::base::diagnostic::Problems;

/// Who must act, and so how the program ends and whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The repository says something wrong: its author must act.
    Config,
    /// The command line says something wrong: the person who called must act.
    Usage,
    /// A host could not be reached, or the link was lost: trying again may help.
    Unreachable,
    /// A host's key is unknown or has changed: a person must decide.
    HostKey,
    /// We were not let in.
    Auth,
    /// A host answered, and what it did failed.
    Host,
    /// The world moved between plan and apply.
    Stale,
    /// Somebody else holds the lock.
    Locked,
    /// Refused for safety: a foreign thing, a cap, a protected thing.
    Refused,
    /// The run was interrupted by the person who started it.
    Interrupted,
    /// The run stopped, because of other hosts, before it was this one's turn.
    Stopped,
    /// The program itself is wrong.
    Internal,
}

impl Kind {
    /// Whether the same call may succeed later with nothing changed by a person.
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Unreachable | Kind::Locked)
    }
}

/// What happened, who must act, what to do next, and what lay beneath.
#[derive(Debug)]
pub struct Error {
    /// Who must act.
    pub kind: Kind,
    /// What happened, as one sentence without a full stop.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The problems of the repository, where that is what is wrong.
    pub problems: Problems,
    /// What lay beneath.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result with the one error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `what` happened.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), hint: None, problems: Problems::default(), cause: None }
    }

    /// The same error, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with what lay beneath.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The error of a repository with problems.
    pub fn problems(problems: Problems) -> Self {
        let count = problems.errors();
        let noun = if count == 1 { "problem" } else { "problems" };
        Error { problems, ..Error::new(Kind::Config, format!("{count} {noun} in the repository")) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
