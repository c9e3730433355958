//! Tree to `Config`, or all problems at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::base::decode::Text;
use crate::base::diagnostic::Span;
use crate::base::id::{HostName, RepoId, StackName};
use crate::base::secret::Secret;
use crate::base::template::Templates;
use crate::host::transport::Target;
use crate::resource::spec::Spec;

/// A repository, read and checked as far as that goes without a host.
pub struct Config {
    /// The id under which this repository owns things.
    pub repo: RepoId,
    /// Every host, by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Every stack, by name.
    pub stacks: BTreeMap<StackName, Stack>,
    /// Secrets, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Templates, built-in and own.
    pub templates: Templates,
    /// All files of the repository.
    pub files: BTreeMap<Utf8PathBuf, Arc<[u8]>>,
}

/// A host as `hosts/*.kdl` describes it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// How to reach it.
    pub target: Target,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its variables.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// Where it is described.
    pub span: Span,
}

/// A stack as `stacks/NAME/stack.kdl` describes it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Its folder in the repository.
    pub folder: Utf8PathBuf,
    /// The hosts it is for. Never empty.
    pub hosts: Vec<HostName>,
    /// Variables and values, as names for templates; per-host overrides by host.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// Variables for single hosts, laid over `vars`.
    pub overrides: BTreeMap<HostName, serde_json::Map<String, serde_json::Value>>,
    /// What it consists of.
    pub resources: Vec<(Spec, Span)>,
    /// Stacks that must be applied before this one on the same host.
    pub after: Vec<(StackName, Text)>,
    /// Where it is described.
    pub span: Span,
}
