//! SSH: one connection per host, served by one thread that owns the libssh2 session.
//!
//! A libssh2 session must never be used by two threads at once, and its blocking calls cannot be interleaved. So the
//! thread works non-blocking with `poll(2)`, takes commands over a channel, and is woken through a socket pair.

mod actor;
mod auth;
mod clock;
pub mod config;
pub mod known_hosts;
mod link;
mod opening;
mod run;
mod session;
#[cfg(test)]
mod tests;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::clock::Clock;
use crate::host::ssh::config::{HostConfig, Place, Proxy};
use crate::host::ssh::known_hosts::Known;
pub use crate::host::ssh::link::Link;
use crate::host::ssh::session::Plan;
use crate::host::transport::{Prompt, SshTarget};

/// How many machines may stand between.
const MAX_HOPS: usize = 8;

/// Opens the way to `target`, through the machines that stand between.
pub async fn connect(place: &Place, target: &SshTarget, prompt: Arc<dyn Prompt>, deadline: Duration) -> Result<Link> {
    let clock = Clock::new(deadline);
    let mut via: Option<Link> = None;
    for plan in route(place, target)? {
        let stream = match &via {
            Some(link) => Some(link.open_tcp(&plan.config.host_name, plan.config.port, &clock).await?),
            None => None,
        };
        via = Some(Link::start(plan, stream, via, prompt.clone(), clock.clone()).await?);
    }
    via.ok_or_else(|| Error::new(Kind::Internal, "a route without an end"))
}

/// What to connect to, one after the other, each through the one before. The last is the target itself.
fn route(place: &Place, target: &SshTarget) -> Result<Vec<Plan>> {
    let mut plans = vec![plan(place, target)?];
    // The machines before the first one found so far; only the first hop's own configuration is asked for more.
    let mut proxy = match &target.jump {
        Some(jump) => Proxy::Jump(jump.split(',').map(|hop| hop.trim().to_string()).collect()),
        None => plans[0].config.proxy.clone(),
    };
    while let Proxy::Jump(hops) = proxy {
        let mut before = Vec::new();
        for hop in &hops {
            before.push(plan(place, &hop_target(hop)?)?);
        }
        proxy = before.first().map_or(Proxy::None, |first| first.config.proxy.clone());
        plans.splice(0..0, before);
        if plans.len() > MAX_HOPS {
            return Err(Error::new(
                Kind::Usage,
                format!("more than {MAX_HOPS} machines on the way to {}", target.address),
            )
            .hint(
                "does a ProxyJump in ~/.ssh/config lead back to itself? `ProxyJump none` for the first machine ends it",
            ));
        }
    }
    if let Proxy::Command(command) = proxy {
        return Err(Error::new(Kind::Usage, format!("{} is reached by `ProxyCommand {command}`", target.address))
            .hint("ProxyCommand is not supported; ProxyJump is, and `jump=\"…\"` of a host in hosts/*.kdl"));
    }
    Ok(plans)
}

fn plan(place: &Place, target: &SshTarget) -> Result<Plan> {
    let mut config = config::resolve(place, &target.address, target.port, target.user.as_deref())?;
    if !target.identities.is_empty() {
        config.identities.clone_from(&target.identities);
        config.identities_given = true;
        config.identities_only = true;
    }
    let known = known(&config, &target.host_keys)?;
    Ok(Plan { label: target.address.clone(), config, known })
}

/// What is known about the keys of a host: the pins if there are any, else the files.
fn known(config: &HostConfig, pins: &[String]) -> Result<Known> {
    let name = config.key_alias.as_ref().unwrap_or(&config.host_name);
    let port = if config.key_alias.is_some() { 22 } else { config.port };
    if pins.is_empty() { Known::read(name, port, &config.known_hosts) } else { Known::pinned(name, port, pins) }
}

/// `[ssh://][user@]host[:port]`, with an IPv6 address in brackets.
fn hop_target(text: &str) -> Result<SshTarget> {
    let wrong =
        || Error::new(Kind::Usage, format!("`{text}` is no machine to jump through")).hint("[user@]host[:port]");
    let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_string()), rest),
        None => (None, rest),
    };
    let (address, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port)),
            _ => (rest, None),
        },
    };
    let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
    if address.is_empty() {
        return Err(wrong());
    }
    let (host_keys, identities) = (Vec::new(), Vec::new());
    Ok(SshTarget { address: address.into(), port, user, sudo: false, host_keys, identities, jump: None })
}
