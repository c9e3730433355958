//! The stages in order: the one path that the command line and the daemon share.

pub mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::event::Sink;
use crate::base::id::{HostName, ResourceId, StackName};
use crate::load::Config;
use crate::plan::Plan;

/// What a run works on, and within which bounds.
pub struct Setup {
    /// The repository, loaded.
    pub config: Config,
    /// The hosts that take part.
    pub hosts: Vec<HostName>,
    /// The stacks that take part; `None` for all.
    pub stacks: Option<BTreeSet<StackName>>,
    /// Resources that may be taken over.
    pub adopt: BTreeSet<ResourceId>,
    /// How many hosts are worked on at the same time.
    pub parallel: usize,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
}

/// The result of planning.
pub struct Planned {
    /// The plan for all hosts that could be planned.
    pub plan: Plan,
    /// The hosts that could not, and why.
    pub failures: Vec<(HostName, Error)>,
    /// How many resources there are in all.
    pub resources: usize,
    /// How long it took.
    pub elapsed: Duration,
}
