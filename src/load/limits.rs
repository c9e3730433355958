//! How much one run may take away from a host, and what belongs together there: `limits` and `transaction`.

use serde::Serialize;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::load::reading::shown;

/// How much one run may do to one host. What is more needs a person who says so for that very plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many resources it may remove.
    pub deletions: usize,
    /// How many in a hundred of the host's resources it may remove, once the host has ten or more.
    pub share: usize,
    /// How many units and containers it may restart.
    pub restarts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { deletions: 20, share: 50, restarts: 20 }
    }
}

/// What happens together or not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// The changes of each stack.
    #[default]
    Stack,
    /// All changes of a host.
    Host,
}

/// Limits and extent as far as they are given at one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    deletions: Option<usize>,
    share: Option<usize>,
    restarts: Option<usize>,
    extent: Option<Extent>,
}

impl Given {
    /// What `reader` says of them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let extent = reader.value("transaction").and_then(|text| extent(reader, &text));
        let Some(mut limits) = reader.child("limits") else { return Given { extent, ..Given::default() } };
        let mut number = |name: &str| limits.value(name).and_then(|text| whole(&limits, &text, "a number", |n| n));
        let (deletions, restarts) = (number("deletions"), number("restarts"));
        let share = limits.value("share").and_then(|text| {
            let bare = Text { raw: text.raw.strip_suffix('%').unwrap_or(&text.raw).into(), span: text.span };
            whole(&limits, &bare, "a share, such as \"50%\"", |share| share.filter(|share| *share <= 100))
        });
        limits.finish();
        Given { deletions, share, restarts, extent }
    }

    /// What is given here, and where it is not, what is given there.
    pub(super) fn over(&self, other: &Given) -> Given {
        Given {
            deletions: self.deletions.or(other.deletions),
            share: self.share.or(other.share),
            restarts: self.restarts.or(other.restarts),
            extent: self.extent.or(other.extent),
        }
    }

    /// The limits that hold.
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            deletions: self.deletions.unwrap_or(usual.deletions),
            share: self.share.unwrap_or(usual.share),
            restarts: self.restarts.unwrap_or(usual.restarts),
        }
    }

    /// The extent that holds.
    pub(super) fn extent(&self) -> Extent {
        self.extent.unwrap_or_default()
    }
}

fn extent(reader: &Reader<'_>, text: &Text) -> Option<Extent> {
    match text.raw.as_str() {
        "stack" => Some(Extent::Stack),
        "host" => Some(Extent::Host),
        other => {
            let problem = Problem::error(format!("a transaction is a stack or a host, not {}", shown(other)));
            reader
                .report(problem.at(&text.span, "here").hint("write `transaction=\"stack\"` or `transaction=\"host\"`"));
            None
        }
    }
}

fn whole(
    reader: &Reader<'_>,
    text: &Text,
    what: &str,
    allowed: impl Fn(Option<usize>) -> Option<usize>,
) -> Option<usize> {
    let number = allowed(text.raw.parse().ok());
    if number.is_none() {
        reader.report(Problem::error(format!("{} is not {what}", shown(&text.raw))).at(&text.span, "here"));
    }
    number
}
