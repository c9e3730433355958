//! What a stack owns on a host, as recorded on that host itself.
//!
//! Each stack has a ledger `STATE/REPO/ledger/STACK`. It is text, so that a person can read it: a line for each
//! resource, followed by lines for what belongs to it, fields separated by tabs.
//!
//! ```text
//! reconcile-ledger 1
//! salt      random text
//! resource  unit:go-api
//! file      /etc/systemd/system/go-api.service   SHA-256   644   root:root
//! unit      go-api.service                        enabled   active
//! ```
//!
//! Of a file that holds a secret only a keyed digest is kept (`secret` in place of `file`): nobody who reads a ledger
//! can find a weak secret by trying.
//!
//! A claim is written before the thing is made, so nothing we make is ever without an owner.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use camino::Utf8PathBuf;

use crate::base::digest::Digest;
use crate::base::id::ResourceId;
use crate::resource::state::{Owner, PathState, State, UnitState};

const HEADER: &str = "reconcile-ledger 1";

/// What one stack owns on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The key of its keyed digests.
    pub salt: String,
    /// What belongs to each resource.
    pub claims: BTreeMap<ResourceId, Claim>,
}

/// What belongs to one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Paths, and what was last written there.
    pub paths: BTreeMap<Utf8PathBuf, Written>,
    /// Units, and the state they were last brought to.
    pub units: BTreeMap<String, UnitState>,
    /// The Compose project.
    pub project: Option<ProjectClaim>,
    /// Packages.
    pub packages: Vec<String>,
    /// How often the resource has come from the ledger of one stack into that of another. The ledger it came from still
    /// has it: of two claims, the one with more moves is the later.
    pub moves: u32,
}

/// What was last written at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A file.
    File {
        /// Its digest; a keyed one where it holds a secret.
        digest: Digest,
        /// Whether it holds a secret.
        secret: bool,
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
    /// A link to this target.
    Link(String),
}

impl Written {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Written::Directory { .. })
    }

    /// What is written when a path is brought to `state`.
    pub fn of(state: &PathState, salt: &str) -> Self {
        match state {
            PathState::File { content, mode, owner } => Written::File {
                digest: if content.secret { keyed(salt, content.digest) } else { content.digest },
                secret: content.secret,
                mode: *mode,
                owner: owner.clone(),
            },
            PathState::Directory { mode, owner } => Written::Directory { mode: *mode, owner: owner.clone() },
            PathState::Link { target } => Written::Link(target.clone()),
        }
    }
}

/// The digest of a digest under a key, so that it cannot be compared with anything made elsewhere.
pub fn keyed(salt: &str, digest: Digest) -> Digest {
    Digest::of(format!("{salt} {digest}").as_bytes())
}

/// What is recorded of a Compose project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectClaim {
    /// The project's name.
    pub name: String,
    /// Its directory on the host.
    pub directory: Utf8PathBuf,
    /// Its compose files on the host, in order.
    pub files: Vec<Utf8PathBuf>,
    /// Its active profiles.
    pub profiles: Vec<String>,
    /// Each service, with the hash of the configuration it was last started with (empty where it is not known).
    pub services: BTreeMap<String, String>,
    /// It is not to run.
    pub stopped: bool,
    /// The images that were brought for it, as `NAME@DIGEST` or `NAME:TAG`: what runs, then what ran before, the latest first.
    pub images: Vec<String>,
}

impl Claim {
    /// The claim on everything a state consists of.
    pub fn on(state: &State, hashes: &BTreeMap<String, String>, salt: &str) -> Self {
        let project = state.project.as_ref().map(|project| ProjectClaim {
            name: project.name.clone(),
            directory: project.directory.clone(),
            files: project.files.clone(),
            profiles: project.profiles.clone(),
            services: project
                .services
                .keys()
                .map(|service| (service.clone(), hashes.get(service).cloned().unwrap_or_default()))
                .collect(),
            stopped: !project.running,
            images: project.images().collect(),
        });
        Claim {
            paths: state.paths.iter().map(|(path, state)| (path.clone(), Written::of(state, salt))).collect(),
            units: state.units.clone(),
            project,
            packages: state.packages.iter().cloned().collect(),
            moves: 0,
        }
    }

    /// Where Compose was not asked and no file changes, services keep the hashes that they were started with.
    pub fn keep_hashes(&mut self, was: Option<&Claim>) {
        let was = was.and_then(|claim| claim.project.as_ref());
        for (service, hash) in self.project.iter_mut().flat_map(|project| &mut project.services) {
            if let Some(known) = was.and_then(|was| was.services.get(service)).filter(|_| hash.is_empty()) {
                hash.clone_from(known);
            }
        }
    }

    /// Adds everything of another claim on the same resource: what it was, besides what it becomes.
    pub fn add(&mut self, other: &Claim) {
        for (path, written) in &other.paths {
            self.paths.entry(path.clone()).or_insert_with(|| written.clone());
        }
        for (unit, state) in &other.units {
            self.units.entry(unit.clone()).or_insert(*state);
        }
        match (&mut self.project, &other.project) {
            (Some(project), Some(other)) => {
                for (service, hash) in &other.services {
                    project.services.entry(service.clone()).or_insert_with(|| hash.clone());
                }
            }
            (project, other) => *project = project.take().or_else(|| other.clone()),
        }
    }
}

impl ProjectClaim {
    /// Whether the same is to run, and of the same files, whatever hashes and images that came to.
    pub fn is_described_as(&self, other: &ProjectClaim) -> bool {
        let services = self.services.keys().eq(other.services.keys());
        services && (&self.files, &self.profiles, self.stopped) == (&other.files, &other.profiles, other.stopped)
    }
}

impl Ledger {
    /// Reads a ledger. Lines it does not know are passed over: a later version may have written them.
    pub fn parse(text: &str) -> Ledger {
        let mut ledger = Ledger::default();
        let mut current: Option<ResourceId> = None;
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            if let ["salt", salt] = fields[..] {
                ledger.salt = salt.into();
            } else if let ["resource", id] = fields[..] {
                current = id.parse().ok();
                if let Some(id) = &current {
                    ledger.claims.entry(id.clone()).or_default();
                }
            } else if let Some(claim) = current.as_ref().and_then(|id| ledger.claims.get_mut(id)) {
                claim.read_line(&fields);
            }
        }
        ledger
    }

    /// The ledger as text. The same ledger always gives the same text; one with no claims gives none.
    pub fn to_text(&self) -> String {
        if self.claims.is_empty() {
            return String::new();
        }
        let mut text = format!("{HEADER}\n");
        if !self.salt.is_empty() {
            let _ = writeln!(text, "salt\t{}", self.salt);
        }
        for (id, claim) in &self.claims {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "resource\t{id}");
            claim.write_lines(&mut text);
        }
        text
    }
}

impl Claim {
    fn read_line(&mut self, fields: &[&str]) {
        match *fields {
            [kind @ ("file" | "secret"), path, digest, mode, owner] => {
                let (Some(digest), Some(mode)) = (Digest::parse(digest), octal(mode)) else { return };
                let secret = kind == "secret";
                self.paths.insert(path.into(), Written::File { digest, secret, mode, owner: owner_of(owner) });
            }
            ["directory", path, mode, owner] => {
                let Some(mode) = octal(mode) else { return };
                self.paths.insert(path.into(), Written::Directory { mode, owner: owner_of(owner) });
            }
            ["link", path, target] => {
                self.paths.insert(path.into(), Written::Link(target.into()));
            }
            ["unit", name, enabled, active] => {
                let state = UnitState { enabled: truth(enabled), active: truth(active) };
                self.units.insert(name.into(), state);
            }
            ["project", name, directory] => {
                self.project = Some(ProjectClaim {
                    name: name.into(),
                    directory: directory.into(),
                    files: Vec::new(),
                    profiles: Vec::new(),
                    services: BTreeMap::new(),
                    stopped: false,
                    images: Vec::new(),
                });
            }
            ["compose-file", path] => self.project.iter_mut().for_each(|project| project.files.push(path.into())),
            ["profile", name] => self.project.iter_mut().for_each(|project| project.profiles.push(name.into())),
            ["service", name, hash] => {
                if let Some(project) = &mut self.project {
                    project.services.insert(name.into(), hash.trim_start_matches('-').into());
                }
            }
            ["stopped"] => self.project.iter_mut().for_each(|project| project.stopped = true),
            ["image", name] => self.project.iter_mut().for_each(|project| project.images.push(name.into())),
            ["package", name] => self.packages.push(name.into()),
            ["moves", number] => self.moves = number.parse().unwrap_or_default(),
            _ => {}
        }
    }

    fn write_lines(&self, text: &mut String) {
        if self.moves > 0 {
            let _ = writeln!(text, "moves\t{}", self.moves);
        }
        for (path, written) in &self.paths {
            let _ = match written {
                Written::File { digest, secret, mode, owner } => {
                    let kind = if *secret { "secret" } else { "file" };
                    writeln!(text, "{kind}\t{path}\t{digest}\t{mode:o}\t{}:{}", owner.user, owner.group)
                }
                Written::Directory { mode, owner } => {
                    writeln!(text, "directory\t{path}\t{mode:o}\t{}:{}", owner.user, owner.group)
                }
                Written::Link(target) => writeln!(text, "link\t{path}\t{target}"),
            };
        }
        for (name, state) in &self.units {
            let _ = writeln!(text, "unit\t{name}\t{}\t{}", word(state.enabled), word(state.active));
        }
        if let Some(project) = &self.project {
            let _ = writeln!(text, "project\t{}\t{}", project.name, project.directory);
            for file in &project.files {
                let _ = writeln!(text, "compose-file\t{file}");
            }
            for profile in &project.profiles {
                let _ = writeln!(text, "profile\t{profile}");
            }
            for (service, hash) in &project.services {
                let hash = if hash.is_empty() { "-" } else { hash };
                let _ = writeln!(text, "service\t{service}\t{hash}");
            }
            if project.stopped {
                text.push_str("stopped\n");
            }
            for image in &project.images {
                let _ = writeln!(text, "image\t{image}");
            }
        }
        for package in &self.packages {
            let _ = writeln!(text, "package\t{package}");
        }
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok()
}

fn owner_of(text: &str) -> Owner {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    Owner { user: user.into(), group: group.into() }
}

fn word(truth: Option<bool>) -> &'static str {
    match truth {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

fn truth(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_survives_being_written_and_read() {
        let digest = Digest::of(b"x");
        let text = format!(
            "reconcile-ledger 1\nsalt\tabc\nresource\tunit:a\nmoves\t2\nlink\t/etc/x\t../y\n\
             directory\t/srv/a b\t750\troot:adm\nunit\ta.service\tyes\t-\nresource\tcompose:app\n\
             secret\t/srv/app/.env\t{digest}\t600\troot:root\nproject\tapp\t/srv/app\n\
             compose-file\t/srv/app/compose.yaml\nprofile\tdebug\nservice\tapi\tabc\nservice\tweb\t-\nimage\tapi@sha256:1\n"
        );
        let text = text.as_str();
        let ledger = Ledger::parse(text);
        assert_eq!(ledger.to_text(), text);
    }

    #[test]
    fn unknown_lines_are_passed_over() {
        assert_eq!(
            Ledger::parse("reconcile-ledger 9\nresource\tzebra:x\nfile\t/x\t12\t644\ta:b\nblah\n"),
            Ledger::default()
        );
    }
}
