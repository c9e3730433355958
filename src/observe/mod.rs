//! Resources to what a host says of them: which questions to ask, in as few exchanges as can be.
//!
//! The first look asks for everything that is wanted, and brings the ledgers: if nothing differs it is the only one. The
//! second look ([`inspect`]) is needed only where something will change. It asks for what the ledgers claim and nobody
//! wants any more, for the contents behind differing digests, and for the verdict of the host's own validators.

pub mod inspect;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::id::RepoId;
use crate::host::observation::Observation;
use crate::resource::{Action, Desired};

/// How many bytes of paths go into one batch: well below the kernel's limit for arguments.
const BATCH: usize = 96 * 1024;

/// Where a host's paths really are: below a root directory, or as they are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The root directory, absolute.
    pub root: Option<Utf8PathBuf>,
}

impl Place {
    /// Where a managed path really is.
    pub fn real(&self, path: &Utf8Path) -> Utf8PathBuf {
        match &self.root {
            Some(root) => root.join(path.as_str().trim_start_matches('/')),
            None => path.to_owned(),
        }
    }

    /// The managed path that is really there.
    pub fn managed(&self, real: &Utf8Path) -> Utf8PathBuf {
        match self.root.as_ref().and_then(|root| real.strip_prefix(root).ok()) {
            Some(below) => Utf8Path::new("/").join(below),
            None => real.to_owned(),
        }
    }

    /// An observation of real paths as one of managed paths.
    pub fn translate(&self, mut seen: Observation) -> Observation {
        if self.root.is_some() {
            seen.paths = seen.paths.into_iter().map(|(path, seen)| (self.managed(&path), seen)).collect();
            seen.contents = seen.contents.into_iter().map(|(path, bytes)| (self.managed(&path), bytes)).collect();
        }
        seen
    }
}

/// What to ask of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    /// Paths to look at.
    pub paths: BTreeSet<Utf8PathBuf>,
    /// Files whose bytes are wanted.
    pub contents: BTreeSet<Utf8PathBuf>,
    /// Units to ask systemd about.
    pub units: BTreeSet<String>,
    /// Packages to ask dpkg about.
    pub packages: BTreeSet<String>,
    /// Whether to list the containers of Compose projects.
    pub docker: bool,
    /// Whether to list Docker's images.
    pub images: bool,
    /// Whether to gather facts for templates.
    pub facts: bool,
}

impl Questions {
    /// Everything there is to know about what is wanted.
    pub fn about(desired: &Desired, offline: bool) -> Self {
        let mut questions = Questions::default();
        for resource in &desired.resources {
            let faces = resource.colours.iter().flat_map(|colours| colours.faces());
            let paths = faces.flat_map(|face| face.state.paths.keys()).chain(resource.state.paths.keys());
            for path in paths {
                // The directories above tell where new ones must be made.
                questions.paths.extend(path.ancestors().filter(|above| *above != "/").map(Utf8Path::to_owned));
            }
            if offline {
                continue;
            }
            questions.units.extend(resource.state.units.keys().cloned());
            let faces = resource.colours.iter().flat_map(|colours| colours.faces());
            questions.units.extend(faces.flat_map(|face| face.state.units.keys().cloned()));
            questions.packages.extend(resource.state.packages.iter().cloned());
            questions.docker |= resource.state.project.is_some();
            for reaction in &resource.reactions {
                match &reaction.action {
                    Action::Reload(unit)
                    | Action::Restart(unit)
                    | Action::Signal { unit, .. }
                    | Action::ByDirective(unit) => {
                        questions.units.insert(unit.clone());
                    }
                    Action::Container { .. } | Action::Recreate { .. } => questions.docker = true,
                }
            }
        }
        questions
    }

    /// The questions as `observe.sh` reads them. With a repository, they are about its records too.
    pub fn to_request(&self, place: &Place, repo: Option<&RepoId>) -> Vec<u8> {
        let mut request = repo.map_or(String::new(), |repo| format!("repo {repo}\n"));
        if place.root.is_some() {
            let _ = writeln!(request, "state {}", place.real(Utf8Path::new(STATE)));
        }
        for unit in &self.units {
            let _ = writeln!(request, "unit {unit}");
        }
        for package in &self.packages {
            let _ = writeln!(request, "package {package}");
        }
        for path in &self.contents {
            let _ = writeln!(request, "content {}", place.real(path));
        }
        for (asked, word) in [(self.docker, "docker\n"), (self.images, "images\n"), (self.facts, "facts\n")] {
            request.push_str(if asked { word } else { "" });
        }
        let mut batch = String::new();
        for path in &self.paths {
            let _ = writeln!(batch, "{}", place.real(path));
            if batch.len() > BATCH {
                let _ = write!(request, "paths {}\n{batch}", batch.len());
                batch.clear();
            }
        }
        if !batch.is_empty() {
            let _ = write!(request, "paths {}\n{batch}", batch.len());
        }
        request.push_str("look\n");
        request.into_bytes()
    }
}

/// Where root keeps our records on a host.
pub const STATE: &str = "/var/lib/reconcile";
