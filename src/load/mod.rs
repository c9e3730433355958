//! Tree to `Config`, or all problems at once.
//!
//! Loading reads no more of the world than the files it is given, and the secrets that these files name. It never stops
//! at the first problem: whoever fixes a repository wants the whole list.

mod hosts;
mod limits;
mod order;
mod reading;
mod rollout;
pub mod sealed;
mod secrets;
mod selection;
mod selectors;
mod stack;
mod target;
mod values;
mod vars;

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::base::decode::Text;
use crate::base::diagnostic::{Problems, Span};
use crate::base::error::{Error, Result};
use crate::base::id::{HostName, RepoId, StackName};
use crate::base::secret::SecretTree;
use crate::base::template::Templates;
use crate::host::transport::Target;
use crate::resource::pool::Peer;
use crate::resource::registry::Registry;
use crate::resource::spec::Spec;
use crate::sealed::World;
use reading::Reading;

pub use hosts::repo;
pub use limits::{Extent, Limits};
pub use reading::sorted;
pub use rollout::{OnFailure, Rollout, Size, pause};
pub use sealed::Sealed;
pub use selection::{Chosen, Selection};
pub use vars::{Filled, Var, Vars};

/// A repository, read and checked as far as that goes without a host.
pub struct Config {
    /// The id under which this repository owns things.
    pub repo: RepoId,
    /// Every host, by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// How a run goes over them; `None` for all at once.
    pub rollout: Option<Rollout>,
    /// Every stack, by name.
    pub stacks: BTreeMap<StackName, Stack>,
    /// Templates, built-in and own.
    pub templates: Templates,
    /// All files of the repository.
    pub files: BTreeMap<Utf8PathBuf, Arc<[u8]>>,
    /// The files of the repository that have secrets in them, and in which form.
    pub sealed: BTreeMap<Utf8PathBuf, Sealed>,
    /// All hosts, as others see them.
    pub peers: Vec<Peer>,
    /// What `hosts` means in templates: all hosts. It is the same for every one of them.
    pub described: minijinja::Value,
}

/// A host as `hosts/*.kdl` describes it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// How to reach it. The root of a local one is as written: relative to the repository, or absolute.
    pub target: Target,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Its variables, filled in.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// How much one run may do to it.
    pub limits: Limits,
    /// What happens together there.
    pub extent: Extent,
    /// Where it is described.
    pub span: Span,
}

impl Host {
    /// Where it is reached, as templates see it.
    pub fn address(&self) -> &str {
        match &self.target {
            Target::Local { .. } => "127.0.0.1",
            Target::Ssh(ssh) => &ssh.address,
        }
    }

    /// The host as others see it.
    fn peer(&self) -> Peer {
        let (name, address, tags) = (self.name.clone(), self.address().into(), self.tags.clone());
        Peer { name, address, tags, vars: self.vars.clone() }
    }

    /// The host as templates see it.
    pub fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "name": self.name, "address": self.address(), "tags": self.tags, "vars": self.vars })
    }
}

/// A stack as `stacks/NAME/stack.kdl` describes it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Its folder in the repository.
    pub folder: Utf8PathBuf,
    /// The hosts it is for, sorted. Never empty.
    pub hosts: Vec<HostName>,
    /// Its variables, with its values laid over them. Not filled in yet: that differs from host to host.
    pub vars: Vars,
    /// Variables and values for single hosts, laid over `vars` and the host's own.
    pub overrides: BTreeMap<HostName, Vars>,
    /// Secrets by name: those of the stack and those of the whole repository.
    pub secrets: BTreeMap<String, SecretTree>,
    /// Secrets among the values for single hosts, laid over `secrets`.
    pub host_secrets: BTreeMap<HostName, BTreeMap<String, SecretTree>>,
    /// How registries are reached: those of the whole repository, then those of the stack.
    pub registries: Vec<Registry>,
    /// What it consists of.
    pub resources: Vec<(Spec, Span)>,
    /// Whether what it runs is to be stopped.
    pub stopped: bool,
    /// Stacks that must be applied before this one on the same host.
    pub after: Vec<(StackName, Text)>,
    /// Where it is described.
    pub span: Span,
}

/// What to do about secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Read them all; one that is missing is a problem.
    Required,
    /// Read none: every secret has a dummy value. For work whose outcome reaches no host.
    Placeholder,
}

/// Reads the repository whose files are `files`, or reports every problem in it. The problems that come with a config
/// are warnings.
///
/// The world is asked for secrets only: for their values, and for what opens them.
pub fn load(
    files: &BTreeMap<Utf8PathBuf, Arc<[u8]>>,
    world: World<'_>,
    secrets: Secrets,
) -> Result<(Config, Problems)> {
    let reading = Reading::new(files, world, secrets);
    let config = read(&reading);
    let problems = sorted(reading.problems.into_inner());
    match config {
        Some(config) if problems.errors() == 0 => Ok((config, problems)),
        _ => Err(Error::problems(problems)),
    }
}

/// Everything that can be read. `None` only after an error was reported.
fn read(reading: &Reading<'_>) -> Option<Config> {
    let templates = reading.templates();
    let inventory = hosts::read(reading, templates.as_ref());
    let stacks = stack::read_all(reading, &inventory);
    order::check(&stacks, &reading.stacks(), &reading.problems);
    reading.warn_of_strays();
    sealed::refuse_plain_files(reading);
    let described: serde_json::Value = inventory.hosts.values().map(Host::describe).collect();
    Some(Config {
        repo: inventory.repo?,
        peers: inventory.hosts.values().map(Host::peer).collect(),
        described: minijinja::Value::from(minijinja::value::Serde(&described)),
        hosts: inventory.hosts,
        rollout: inventory.rollout,
        stacks,
        templates: templates?,
        files: reading.files.clone(),
        sealed: reading.sealed.take(),
    })
}

#[cfg(test)]
mod tests;
