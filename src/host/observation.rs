//! What was seen on a host.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::digest::Digest;
use crate::host::hold::Hold;
use crate::host::images::ImagesSeen;
use crate::resource::state::Owner;

/// What is there, as far as it could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// Nothing is there.
    Absent,
    /// This is there.
    Present(T),
    /// It could not be seen, and why.
    Unknown(String),
}

/// A path as it is on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSeen {
    /// What kind of thing it is.
    pub thing: Thing,
    /// The type bits of `st_mode`.
    pub raw_type: u32,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner and group.
    pub ids: (u32, u32),
    /// Owner and group by name.
    pub owner: Owner,
    /// Size in bytes.
    pub size: u64,
}

/// What kind of thing a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A regular file with this digest; `None` where it could not be read.
    File(Option<Digest>),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(String),
    /// A device, socket or pipe.
    Other,
}

impl PathSeen {
    /// Reads a line of `stat -c '%f %u %g %s %U:%G %n'`: the path, and what is there.
    pub(super) fn read(line: &str) -> Option<(Utf8PathBuf, PathSeen)> {
        // The names of users and groups may hold spaces, but no slash, with which each path begins.
        let (rest, path) = line.split_at(line.find(" /")? + 1);
        let mut fields = rest.trim_end().splitn(5, ' ');
        let mut next = || fields.next();
        let raw = u32::from_str_radix(next()?, 16).ok()?;
        let ids = (next()?.parse().ok()?, next()?.parse().ok()?);
        let size = next()?.parse().ok()?;
        let (user, group) = next()?.split_once(':')?;
        let owner = Owner { user: user.into(), group: group.into() };
        let thing = match raw & 0xf000 {
            0x8000 => Thing::File(None),
            0x4000 => Thing::Directory,
            0xa000 => Thing::Link(String::new()),
            _ => Thing::Other,
        };
        Some((path.into(), PathSeen { thing, raw_type: raw & 0xf000, mode: raw & 0o7777, ids, owner, size }))
    }

    /// The line that `stat -c '%f %u %g %n'` prints of it while it stays as it is.
    pub fn stat_line(&self, path: &Utf8Path) -> String {
        let (user, group) = self.ids;
        format!("{:x} {user} {group} {path}", self.raw_type | self.mode)
    }

    /// The target, where it is a link.
    pub fn link_target(&self) -> Option<&str> {
        match &self.thing {
            Thing::Link(target) => Some(target),
            _ => None,
        }
    }

    /// The digest, where it is a readable file.
    pub fn digest(&self) -> Option<Digest> {
        match self.thing {
            Thing::File(digest) => digest,
            _ => None,
        }
    }
}

impl Observation {
    /// Adds what a second exchange with the same host has told. Where both speak, the later word counts.
    pub fn merge(&mut self, later: Observation) {
        self.paths.extend(later.paths);
        self.contents.extend(later.contents);
        self.units.extend(later.units);
        self.packages.extend(later.packages);
        self.containers = later.containers.or(self.containers.take());
        self.images = later.images.or(self.images.take());
        self.facts = later.facts.or(self.facts.take());
        self.verdicts = later.verdicts;
    }

    /// Drops what only planning needs: of many hosts it is much.
    pub fn forget_what_is_planned(&mut self) {
        self.contents = BTreeMap::new();
        self.ledgers = BTreeMap::new();
        self.images = None;
        self.verdicts = Verdicts::default();
    }
}

/// What systemd says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// `loaded`, `not-found`, `masked`, `error`, `bad-setting`.
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// `running`, `dead`, `exited`, …
    pub sub: String,
    /// `enabled`, `disabled`, `static`, … or empty.
    pub file_state: String,
    /// The unit file in use.
    pub fragment: String,
    /// Files have changed since systemd last read them.
    pub needs_reload: bool,
    /// The id of the current or last run of the unit.
    pub invocation: String,
    /// `simple`, `oneshot`, …
    pub service_type: String,
    /// systemd does not have it in memory: it does not run, and when somebody asks for it, its files are read.
    pub rests: bool,
}

/// A container of a Compose project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its id.
    pub id: String,
    /// Its project and service.
    pub project: String,
    /// The service it belongs to.
    pub service: String,
    /// The hash of the service's configuration it was created with.
    pub hash: String,
    /// The version of Compose that created it.
    pub compose: String,
    /// `running`, `exited`, `created`, `paused`, `restarting`, `dead`.
    pub state: String,
    /// As in `Exited (0) 5 minutes ago`.
    pub status: String,
    /// The image as named when it was created.
    pub image: String,
}

/// A restart or reload that a unit, or containers, still need, noted before its files changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The unit, or the containers as `docker:PROJECT:SERVICE`.
    pub unit: String,
    /// `restart`, `recreate`, `reload`, or `signal` with its name.
    pub verb: String,
    /// The invocation that ran with the older files. What is said of containers still holds.
    pub invocation: String,
    /// The run that changed the files.
    pub run: String,
    /// The resource whose files changed.
    pub why: String,
}

/// Everything one exchange has told of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// The user that the programs run as.
    pub uid: u32,
    /// The id of the current boot.
    pub boot: String,
    /// Where our records are.
    pub state: Utf8PathBuf,
    /// systemd is running there.
    pub systemd: bool,
    /// The tools that are there, of those we may want.
    pub tools: BTreeSet<String>,
    /// The paths that were asked for.
    pub paths: BTreeMap<Utf8PathBuf, Seen<PathSeen>>,
    /// The contents that were asked for.
    pub contents: BTreeMap<Utf8PathBuf, Vec<u8>>,
    /// The units that were asked for.
    pub units: BTreeMap<String, UnitSeen>,
    /// The installed versions of the packages that were asked for; those not installed are missing.
    pub packages: BTreeMap<String, String>,
    /// All containers of Compose projects, or why they cannot be seen.
    pub containers: Option<Result<Vec<ContainerSeen>, String>>,
    /// The images that Docker has there, where they were asked for.
    pub images: Option<ImagesSeen>,
    /// All ledgers, by `REPO/ledger/STACK`.
    pub ledgers: BTreeMap<String, String>,
    /// Who is changing the host right now.
    pub busy: Option<String>,
    /// Runs of this repository that never came to an end, and whose program is gone.
    pub unfinished: Vec<String>,
    /// Restarts and reloads that earlier runs still owe.
    pub owed: Vec<Owed>,
    /// The stacks of this repository that are held back, by name. What has run out is not among them.
    pub holds: BTreeMap<String, Hold>,
    /// Facts, where they were asked for.
    pub facts: Option<Facts>,
    /// What the validators said, where they were asked.
    pub verdicts: Verdicts,
}

/// Facts about a host, for templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    /// The kernel's name, release and machine, such as `Linux`, `6.1.0`, `x86_64`.
    pub kernel: String,
    /// Machine architecture as `uname -m` prints it.
    pub arch: String,
    /// The host's own name.
    pub hostname: String,
    /// The keys of `/etc/os-release` in lower case: `id`, `version_id`, `version_codename`, …
    pub os: BTreeMap<String, String>,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Number of processors.
    pub cpus: u64,
    /// Global addresses, without prefix length.
    pub addresses: Vec<String>,
    /// Version of systemd, such as `257`; empty where it is not installed.
    pub systemd: String,
    /// Version of nginx.
    pub nginx: String,
    /// Version of Docker.
    pub docker: String,
    /// Version of Docker Compose.
    pub compose: String,
    /// The host's clock, in seconds since 1970.
    pub time: i64,
}

/// What the validators on a host said of a candidate tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Why nothing could be checked.
    pub cannot: Option<String>,
    /// The version of Compose there, where it has a say; empty where there is none.
    pub compose: Option<String>,
    /// Each check: what was checked, its exit status, its output.
    pub checks: Vec<(String, i32, String)>,
}
