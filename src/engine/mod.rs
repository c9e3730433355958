//! The stages in order: the one path that the command line and the daemon share.

mod back;
mod builder;
mod drain;
mod hiding;
pub mod hold;
pub mod host;
pub mod images;
pub mod pool;
mod pull;
pub mod report;
mod rolling;
mod serving;
pub mod session;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::base::diagnostic::Problems;
use crate::base::error::{Error, Kind};
use crate::base::event::{Event, Sink};
use crate::base::id::{HostName, ResourceId, StackName};
use crate::host::transport::Prompt;
use crate::load::{self, Config, Rollout};
use crate::plan::Plan;
use crate::plan::waves::Waves;
use host::Ready;
use pool::Pool;

pub use rolling::apply;

/// What a run works on, and within which bounds.
pub struct Setup {
    /// The repository, loaded.
    pub config: Arc<Config>,
    /// The directory that relative root directories of local hosts start from, where the repository is one.
    pub base: Option<Utf8PathBuf>,
    /// The hosts that take part.
    pub hosts: Vec<HostName>,
    /// The stacks that take part on each host; `None` for all.
    pub stacks: Option<BTreeMap<HostName, BTreeSet<StackName>>>,
    /// Resources that may be taken over.
    pub adopt: BTreeSet<ResourceId>,
    /// The beginning of the digest of the one plan that may do what plans must not do just like that.
    pub override_plan: Option<String>,
    /// Who waits, before planning, for a run that is at work and brings back what dead runs left half done; `None` only
    /// tells of them.
    pub recover: Option<String>,
    /// In which waves hosts are changed; `None` for all at once, whatever happens on the others.
    pub rollout: Option<Rollout>,
    /// How many hosts are worked on at the same time.
    pub parallel: usize,
    /// How many seconds to wait for another run on the same host.
    pub lock_wait: u32,
    /// How many seconds a host waits for confirmation before it goes back; 0 for no confirmation.
    pub confirm: u32,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// Who is asked for passphrases.
    pub prompt: Arc<dyn Prompt>,
    /// Keeps connections, and what was rendered, from one plan to the next; `None` for a program that plans once.
    pub pool: Option<Arc<Pool>>,
    /// Becomes true when the person wants to stop: no host is begun after that, and no transaction on those that were.
    pub interrupted: watch::Receiver<bool>,
}

impl Setup {
    /// The stacks that take part on a host; `None` for all.
    pub fn stacks_on(&self, host: &HostName) -> Option<&BTreeSet<StackName>> {
        static NONE: BTreeSet<StackName> = BTreeSet::new();
        self.stacks.as_ref().map(|stacks| stacks.get(host).unwrap_or(&NONE))
    }

    /// Whether a stack takes part on a host.
    pub fn takes_part(&self, host: &HostName, stack: &StackName) -> bool {
        self.stacks_on(host).is_none_or(|stacks| stacks.contains(stack))
    }
}

/// The result of planning.
pub struct Planned {
    /// The plan for all hosts that could be planned.
    pub plan: Plan,
    /// The hosts that could not, and why.
    pub failures: Vec<(HostName, Error)>,
    /// What is wrong that only showed while planning, with its lines.
    pub problems: Problems,
    /// How many resources there are in all.
    pub resources: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// The open sessions, for apply.
    pub ready: BTreeMap<HostName, Ready>,
}

/// Plans all hosts side by side.
pub async fn plan(setup: &Arc<Setup>) -> Planned {
    let start = Instant::now();
    let lookups = Arc::new(images::Lookups::default());
    let builders = Arc::new(builder::Builders::default());
    let results = on_all_hosts(setup, "plan", None, setup.hosts.clone(), move |setup, host| {
        let (lookups, builders) = (lookups.clone(), builders.clone());
        async move { host::plan(&setup, &host, &lookups, builders).await }
    });
    let mut planned = Planned {
        plan: Plan { repo: setup.config.repo.clone(), hosts: Vec::new(), waves: Waves::default() },
        failures: Vec::new(),
        problems: Problems::default(),
        resources: 0,
        elapsed: Duration::ZERO,
        ready: BTreeMap::new(),
    };
    for (host, result) in results.await {
        match result {
            Ok(ready) => {
                planned.resources += ready.resources.len();
                // Of many hosts each says the same of the same line.
                for problem in &ready.problems.0 {
                    if !planned.problems.0.contains(problem) {
                        planned.problems.push(problem.clone());
                    }
                }
                planned.plan.hosts.push(ready.plan.clone());
                planned.ready.insert(host, ready);
            }
            Err(error) => planned.failures.push((host, hiding::in_error(setup, error))),
        }
    }
    let busy = planned.plan.hosts.iter().filter(|host| host.has_work());
    let busy: Vec<HostName> = busy.map(|host| host.host.clone()).collect();
    let rewritten = serving::rewritten(&planned.ready);
    let (drains, unknown) = serving::drains(setup, &planned.ready, &rewritten);
    planned.problems.extend(unknown);
    planned.plan.waves = Waves::new(&busy, setup.rollout.clone(), drains, &rewritten);
    planned.elapsed = start.elapsed();
    planned
}

/// Works on hosts side by side, at most so many at a time. One that fails or hangs does not stop the others.
async fn on_all_hosts<T, F>(
    setup: &Arc<Setup>,
    work: &'static str,
    wave: Option<(usize, usize)>,
    hosts: Vec<HostName>,
    what: impl Fn(Arc<Setup>, HostName) -> F,
) -> BTreeMap<HostName, Result<T, Error>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    setup.sink.note(Event::Begin { work, wave, hosts: hosts.len() });
    let places = Arc::new(Semaphore::new(setup.parallel.max(1)));
    let mut tasks = JoinSet::new();
    for host in hosts {
        let (places, setup, host_work) = (places.clone(), setup.clone(), what(setup.clone(), host.clone()));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let result = if *setup.interrupted.borrow() {
                Err(Error::new(Kind::Interrupted, format!("{host} was not begun: the run was interrupted")))
            } else {
                let address = setup.config.hosts.get(&host).map_or("", load::Host::address);
                setup.sink.note(Event::Working { host: host.clone(), what: format!("connecting to {address}") });
                host_work.await
            };
            setup.sink.note(Event::Done { host: host.clone(), ok: result.is_ok() });
            (host, result)
        });
    }
    let mut results = BTreeMap::new();
    while let Some(joined) = tasks.join_next().await {
        // A task that panics is a bug of ours; its host is then missing from the results and so reported by nobody:
        // better to stop loudly.
        match joined {
            Ok((host, result)) => results.insert(host, result),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
    }
    setup.sink.note(Event::End);
    results
}
