//! Names of things: repositories, hosts, stacks, resources.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name `text`, or why it cannot be one: only letters, digits, `.`, `_` and `-`,
            /// beginning with a letter or digit, at most 100 characters.
            pub fn new(text: impl Into<String>) -> Result<Self, String> {
                let text = text.into();
                check_name(&text)?;
                Ok($name(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The id of a repository, under which it owns things on hosts.
    RepoId
);
name!(
    /// The name of a host, unique in a repository.
    HostName
);
name!(
    /// The name of a stack, unique in a repository.
    StackName
);

fn check_name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    if text.is_empty() {
        return Err("a name cannot be empty".into());
    }
    if text.len() > 100 {
        return Err(format!("a name has at most 100 characters, this one has {}", text.len()));
    }
    if !text.starts_with(plain) || !text.chars().all(|c| plain(c) || "._-".contains(c)) {
        return Err("a name has only letters, digits, `.`, `_` and `-`, and begins with a letter or digit".into());
    }
    Ok(())
}

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Debian packages that must be there.
    Packages,
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A systemd service, or any other unit.
    Unit,
    /// A systemd timer with its service.
    Timer,
    /// An nginx server block.
    Site,
    /// A Compose project.
    Compose,
    /// A Cloudflare tunnel run by cloudflared.
    Tunnel,
}

impl Kind {
    /// Every kind, in the order in which kinds are listed.
    pub const ALL: [Kind; 8] =
        [Kind::Packages, Kind::Directory, Kind::File, Kind::Unit, Kind::Timer, Kind::Site, Kind::Compose, Kind::Tunnel];

    /// The word for the kind in stacks, plans and references.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Packages => "packages",
            Kind::Directory => "directory",
            Kind::File => "file",
            Kind::Unit => "unit",
            Kind::Timer => "timer",
            Kind::Site => "site",
            Kind::Compose => "compose",
            Kind::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("no kind is called `{text}`"))
    }
}

/// The id of a resource on its host: kind and name, written `unit:go-api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// What it is.
    pub kind: Kind,
    /// Its name, unique for its kind on its host.
    pub name: String,
}

impl ResourceId {
    /// The id of the resource of `kind` called `name`.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        ResourceId { kind, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl FromStr for ResourceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').ok_or_else(|| format!("`{text}` is not of the form kind:name"))?;
        if name.is_empty() {
            return Err(format!("`{text}` names nothing after the colon"));
        }
        Ok(ResourceId::new(kind.parse()?, name))
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
