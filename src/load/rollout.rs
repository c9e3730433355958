//! How a run goes over hosts: `rollout`, below `repo`.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::HostName;
use crate::load::reading::{Reading, shown, with_known};
use crate::resource::value::parse_duration;

/// The order in which hosts are changed, and when that stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// The hosts that are changed before all others.
    pub canary: Vec<HostName>,
    /// How many are changed at the same time after that.
    pub batch: Size,
    /// No wave is larger than this, not even that of the canaries.
    pub max_unavailable: Size,
    /// How long to wait between waves.
    #[serde(serialize_with = "seconds")]
    pub pause: Duration,
    /// What becomes of it when hosts fail, are rolled back or cannot be reached.
    #[serde(flatten)]
    pub on_failure: OnFailure,
}

/// What becomes of a rollout when hosts fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "on_failure", rename_all = "kebab-case")]
pub enum OnFailure {
    /// It goes on whatever happens.
    Continue,
    /// After so many of them no further wave begins.
    Stop {
        /// How many.
        threshold: NonZeroUsize,
    },
    /// The same, and all hosts that it has changed are brought back.
    Revert {
        /// How many.
        threshold: NonZeroUsize,
    },
}

impl OnFailure {
    /// After how many failed hosts no further wave begins; `None` for never.
    pub fn threshold(self) -> Option<NonZeroUsize> {
        match self {
            OnFailure::Continue => None,
            OnFailure::Stop { threshold } | OnFailure::Revert { threshold } => Some(threshold),
        }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        let all = Size::Percent(100);
        let on_failure = OnFailure::Stop { threshold: NonZeroUsize::MIN };
        Rollout { canary: Vec::new(), batch: all, max_unavailable: all, pause: Duration::ZERO, on_failure }
    }
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// How many hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many.
    Number(NonZeroUsize),
    /// So many in a hundred, from 1 to 100.
    Percent(u8),
}

impl Size {
    /// What this comes to for so many hosts: rounded down, and at least one.
    pub fn of(self, hosts: usize) -> NonZeroUsize {
        match self {
            Size::Number(number) => number,
            Size::Percent(share) => NonZeroUsize::new(hosts * usize::from(share) / 100).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = match text.strip_suffix('%') {
            Some(share) => share.parse().ok().filter(|share| (1..=100).contains(share)).map(Size::Percent),
            None => text.parse().ok().map(Size::Number),
        };
        size.ok_or_else(|| "hosts are a number from 1, or a share such as \"25%\"".into())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Number(number) => write!(f, "{number}"),
            Size::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Size::Number(number) => number.serialize(serializer),
            Size::Percent(_) => serializer.collect_str(self),
        }
    }
}

/// A rollout as it is written, and the names of its canaries, which may be hosts of files not read yet.
pub(super) struct Draft {
    rollout: Rollout,
    canary: Vec<Text>,
    span: Span,
}

impl Draft {
    /// The rollout that `reader` holds, if it holds one.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Draft> {
        let mut reader = reader.child("rollout")?;
        let usual = Rollout::default();
        let rollout = Rollout {
            canary: Vec::new(),
            batch: parsed(&mut reader, "batch", Size::from_str).unwrap_or(usual.batch),
            max_unavailable: parsed(&mut reader, "max-unavailable", Size::from_str).unwrap_or(usual.max_unavailable),
            pause: parsed(&mut reader, "pause", pause).unwrap_or(usual.pause),
            on_failure: on_failure(&mut reader),
        };
        let draft = Draft { rollout, canary: reader.values("canary"), span: reader.span() };
        reader.finish();
        Some(draft)
    }

    /// The rollout, once all hosts are known.
    pub(super) fn finish<'h>(
        self,
        reading: &Reading<'_>,
        hosts: &(impl Iterator<Item = &'h HostName> + Clone),
        complete: bool,
    ) -> Rollout {
        let mut rollout = self.rollout;
        for name in &self.canary {
            match hosts.clone().find(|host| host.as_str() == name.raw) {
                Some(host) => rollout.canary.push(host.clone()),
                None if complete => {
                    let problem = Problem::error(format!("there is no host {}", shown(&name.raw)));
                    let problem = problem.at(&name.span, "here").at(&self.span, "a canary of this rollout");
                    reading.report(with_known(problem, &name.raw, "hosts", hosts.clone().map(HostName::as_str)));
                }
                None => {}
            }
        }
        rollout
    }
}

/// A span of time to wait, as it is written.
pub fn pause(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a pause is a span of time such as \"30s\" or \"5m\"".into())
}

fn parsed<T>(reader: &mut Reader<'_>, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    let text = reader.value(name)?;
    let refused = |hint| {
        let problem = Problem::error(format!("{} is no {name}", shown(&text.raw)));
        reader.report(problem.at(&text.span, "here").hint(hint));
    };
    parse(&text.raw).map_err(refused).ok()
}

/// What `on-failure` says, and after how many failures.
fn on_failure(reader: &mut Reader<'_>) -> OnFailure {
    let number = |text: &str| text.parse().map_err(|_| "a threshold is a number of hosts, from 1".to_string());
    let given = parsed(reader, "threshold", number);
    let threshold = given.unwrap_or(NonZeroUsize::MIN);
    let what = |text: &str| match text {
        "stop" => Ok(OnFailure::Stop { threshold }),
        "revert" => Ok(OnFailure::Revert { threshold }),
        "continue" => Ok(OnFailure::Continue),
        _ => Err("write \"stop\", \"revert\" or \"continue\"".to_string()),
    };
    let on_failure = parsed(reader, "on-failure", what).unwrap_or(OnFailure::Stop { threshold });
    if on_failure == OnFailure::Continue && given.is_some() {
        let problem = Problem::error("a rollout that goes on after failures has no threshold");
        reader.report(problem.at(&reader.span(), "here").hint("remove `threshold`, or `on-failure`"));
    }
    on_failure
}
