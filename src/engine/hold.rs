//! Holds stacks back on hosts, and releases them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, StackName};
use crate::engine::host::locked;
use crate::engine::session::Session;
use crate::engine::{Setup, on_all_hosts};
use crate::host::hold::Hold;
use crate::host::program::Program;
use crate::observe::Questions;

/// Records on all hosts of the setup that a stack is held, or with `None` that it is not. Says of each host whether that changed
/// anything.
pub async fn record(
    setup: &Arc<Setup>,
    stack: &StackName,
    hold: Option<&Hold>,
    who: &str,
) -> BTreeMap<HostName, Result<bool>> {
    let mut order = format!("repo {}\nwho {who}\nwait {}\nstack {stack}\n", setup.config.repo, setup.lock_wait);
    if let Some(hold) = hold {
        // Writing to a string cannot fail.
        let _ = writeln!(order, "record {}", hold.to_line());
    }
    let order: Arc<str> = order.into();
    let work = if hold.is_some() { "hold" } else { "release" };
    on_all_hosts(setup, work, None, setup.hosts.clone(), |setup, host| {
        let order = order.clone();
        async move { on_host(&setup, &host, &order).await }
    })
    .await
}

async fn on_host(setup: &Setup, host: &HostName, order: &str) -> Result<bool> {
    let (target, pool) = (&setup.config.hosts[host].target, setup.pool.as_deref());
    let mut session = Session::open(host, target, setup.base.as_ref(), setup.prompt.clone(), pool).await?;
    let questions = Questions::default().to_request(&session.place, Some(&setup.config.repo));
    let state = session.ask(Program::Observe, &questions).await?.state;
    let answer = session.hear(Program::Hold, format!("state {state}\n{order}end\n").as_bytes()).await?;
    let answer = String::from_utf8_lossy(&answer);
    if let Some(holder) = answer.lines().find_map(|line| line.strip_prefix("locked ")) {
        return Err(locked(host, holder));
    }
    if let Some(word) = answer.lines().find(|line| matches!(*line, "held" | "released" | "free")) {
        return Ok(word != "free");
    }
    let error = Error::new(Kind::Host, format!("{host}: it could not be written down in {state}"));
    Err(error.hint("is the disk full?"))
}
