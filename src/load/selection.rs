//! What a call is about: `--host`, `--stack`, `--tag`.

use std::collections::BTreeSet;

use crate::base::diagnostic::did_you_mean;
use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, StackName};
use crate::load::Config;
use crate::load::reading::shown;

/// Hosts, stacks and tags as they were asked for. Several of one sort mean any of them; different sorts narrow each
/// other; none at all means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Names of stacks.
    pub stacks: Vec<String>,
    /// Tags of hosts.
    pub tags: Vec<String>,
}

/// What a selection means in a repository. Neither set is ever empty, unless the repository itself has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The hosts.
    pub hosts: BTreeSet<HostName>,
    /// The stacks, each of which is on one of these hosts.
    pub stacks: BTreeSet<StackName>,
    /// Whether some stacks of these hosts are left out: then what is not chosen must not be taken for unwanted.
    pub partial: bool,
}

impl Selection {
    /// What this means in `config`. A name that matches nothing is an error, and so are names that together match
    /// nothing: never does a slip of the pen select everything, or pass for success with nothing done.
    pub fn select(&self, config: &Config) -> Result<Chosen> {
        let all_tags: BTreeSet<&str> = config.hosts.values().flat_map(|host| &host.tags).map(String::as_str).collect();
        known("host", &self.hosts, &config.hosts.keys().map(HostName::as_str).collect())?;
        known("tag", &self.tags, &all_tags)?;
        known("stack", &self.stacks, &config.stacks.keys().map(StackName::as_str).collect())?;
        let mut hosts: BTreeSet<HostName> = config
            .hosts
            .values()
            .filter(|host| self.hosts.is_empty() || self.hosts.iter().any(|name| name == host.name.as_str()))
            .filter(|host| self.tags.is_empty() || host.tags.iter().any(|tag| self.tags.contains(tag)))
            .map(|host| host.name.clone())
            .collect();
        if hosts.is_empty() && !(self.hosts.is_empty() && self.tags.is_empty()) {
            return Err(nothing("no chosen host has a chosen tag"));
        }
        let on_chosen = config.stacks.values().filter(|stack| stack.hosts.iter().any(|host| hosts.contains(host)));
        let on_chosen: Vec<_> = on_chosen.collect();
        let chosen: Vec<_> = on_chosen
            .iter()
            .filter(|stack| self.stacks.is_empty() || self.stacks.iter().any(|name| name == stack.name.as_str()))
            .collect();
        if !self.stacks.is_empty() {
            if chosen.is_empty() {
                return Err(nothing("no chosen stack is on a chosen host"));
            }
            hosts.retain(|host| chosen.iter().any(|stack| stack.hosts.contains(host)));
        }
        let partial = on_chosen
            .iter()
            .any(|stack| !chosen.iter().any(|c| c.name == stack.name) && stack.hosts.iter().any(|h| hosts.contains(h)));
        Ok(Chosen { stacks: chosen.iter().map(|stack| stack.name.clone()).collect(), hosts, partial })
    }
}

fn known(what: &str, asked: &[String], known: &BTreeSet<&str>) -> Result<()> {
    let Some(unknown) = asked.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let error = Error::new(Kind::Usage, format!("there is no {what} {}", shown(unknown)));
    Err(match did_you_mean(unknown, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.hint(format!("the repository has no {what}s")),
        None if known.len() < 9 => {
            error.hint(format!("{what}s: {}", known.iter().copied().collect::<Vec<_>>().join(", ")))
        }
        None => error,
    })
}

fn nothing(why: &str) -> Error {
    Error::new(Kind::Usage, format!("nothing is selected: {why}")).hint("loosen `--host`, `--stack` or `--tag`")
}
