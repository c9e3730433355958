//! The normal form of a state: paths, units, a Compose project, packages. What is wanted and what is seen are written
//! in the same form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::base::digest::Digest;
use crate::provider::registry::Layer;
use crate::resource::Patience;
use crate::resource::compose_build::Built;

/// How one resource is, or should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Files, directories and links.
    pub paths: BTreeMap<Utf8PathBuf, PathState>,
    /// What systemd should say of units, by full unit name (`go-api.service`).
    pub units: BTreeMap<String, UnitState>,
    /// The Compose project.
    pub project: Option<Project>,
    /// Debian packages.
    pub packages: BTreeSet<String>,
}

impl State {
    /// Whether a secret stands in one of its files.
    pub(super) fn has_secret(&self) -> bool {
        self.paths.values().any(|path| matches!(path, PathState::File { content, .. } if content.secret))
    }

    /// Has its own units neither run nor start at boot; whether there are any. What is started by others, or not at all,
    /// is not to be stopped either.
    pub(super) fn stop_own(&mut self) -> bool {
        let own = |unit: &str| self.paths.keys().any(|path| path.file_name() == Some(unit));
        let units: Vec<String> = self.units.keys().filter(|unit| own(unit)).cloned().collect();
        for unit in &units {
            if let Some(state) = self.units.get_mut(unit) {
                *state = UnitState { enabled: state.enabled.and(Some(false)), active: state.active.and(Some(false)) };
            }
        }
        !units.is_empty()
    }
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState {
    /// A regular file.
    File {
        /// What is in it.
        content: Content,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: Owner,
    },
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: Owner,
    },
    /// A symbolic link.
    Link {
        /// What it points to, as written.
        target: String,
    },
}

/// Who owns a path: names, or numbers as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Owner {
    /// `root:root`.
    pub fn root() -> Self {
        Owner { user: "root".into(), group: "root".into() }
    }
}

/// The content of a file. Equality is equality of digests.
#[derive(Clone)]
pub struct Content {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// Their digest.
    pub digest: Digest,
    /// Whether a secret went into it: then it is never shown.
    pub secret: bool,
}

impl Content {
    /// Content with nothing secret in it.
    pub fn plain(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Content { digest: Digest::of(&bytes), bytes, secret: false }
    }

    /// Content that must never be shown.
    pub fn secret(bytes: impl Into<Arc<[u8]>>) -> Self {
        Content { secret: true, ..Content::plain(bytes) }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Content {}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = if self.secret { ", secret" } else { "" };
        write!(f, "{} bytes {:?}{secret}", self.bytes.len(), self.digest)
    }
}

/// What systemd should say of a unit. `None` means: not ours to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UnitState {
    /// Starts at boot.
    pub enabled: Option<bool>,
    /// Runs now.
    pub active: Option<bool>,
}

/// A Compose project and what of it should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The project's name (`docker compose -p`).
    pub name: String,
    /// The project directory on the host.
    pub directory: Utf8PathBuf,
    /// The compose files on the host, in order.
    pub files: Vec<Utf8PathBuf>,
    /// Active profiles.
    pub profiles: Vec<String>,
    /// The services that run.
    pub services: BTreeMap<String, ProjectService>,
    /// Whether it should run. When not, it is stopped, never removed.
    pub running: bool,
    /// The services that should not run although the project does.
    pub stopped: BTreeSet<String>,
    /// The images that are pinned to a digest.
    pub pins: Vec<Pin>,
    /// The images that another host builds, and the services that run them.
    pub built: Vec<Built>,
    /// How many former digests of each image stay on the host, for going back.
    pub keep: usize,
    /// How one sees that a container works, and within what time.
    pub patience: (Patience, Duration),
}

impl Project {
    /// The images that exactly it runs, as far as that is said: by digest, or by what they are built from.
    pub fn images(&self) -> impl Iterator<Item = String> + '_ {
        self.pins.iter().map(Pin::image).chain(self.built.iter().map(|built| built.recipe.image.clone()))
    }
}

/// An image by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its name without tag and digest.
    pub name: String,
    /// The tag that the digest was found under.
    pub tag: Option<String>,
    /// Its digest.
    pub digest: String,
    /// The platform, where it is not the host's own.
    pub platform: Option<String>,
    /// The services that run it.
    pub services: Vec<String>,
    /// Its layers, where the registry was asked for them.
    pub layers: Option<Vec<Layer>>,
}

impl Pin {
    /// The name by which an Engine knows exactly this image.
    pub fn image(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

/// A service of a Compose project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectService {
    /// The managed single files it mounts.
    pub mounts: Vec<Utf8PathBuf>,
    /// Where its image is built on the host, the folders it is made from: also those of built services whose image it
    /// begins with.
    pub built_from: Option<Vec<Utf8PathBuf>>,
    /// The other services it needs.
    pub ties: Ties,
    /// Whether Docker is to start it again whenever it ends, even if it ends well.
    pub for_good: bool,
}

/// What a service of a Compose project has to do with the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ties {
    /// Those that are brought up before it (`depends_on` and the like).
    pub needs: BTreeSet<String>,
    /// Those whose network or volumes it uses (`network_mode: service:db`): where their container is replaced, so is its
    /// own.
    pub borrows: BTreeSet<String>,
    /// Those with which it is restarted, or replaced (`depends_on: {db: {restart: true}}`).
    pub follows: BTreeSet<String>,
}

impl Ties {
    /// Adds what another description of the same service says.
    pub fn add(&mut self, other: &Ties) {
        self.needs.extend(other.needs.iter().cloned());
        self.borrows.extend(other.borrows.iter().cloned());
        self.follows.extend(other.follows.iter().cloned());
    }
}
