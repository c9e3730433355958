//! What a host says of itself: the answer of `observe.sh`, read into types.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use camino::{Utf8Path, Utf8PathBuf};

use crate::base::digest::Digest;
use crate::base::error::{Error, Kind, Result};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its id.
    pub id: String,
    /// Its project and service.
    pub project: String,
    /// The service it belongs to.
    pub service: String,
    /// The hash of the service's configuration it was created with.
    pub hash: String,
    /// `running`, `exited`, `created`, `paused`, `restarting`, `dead`.
    pub state: String,
    /// As in `Exited (0) 5 minutes ago`.
    pub status: String,
    /// The image as named when it was created.
    pub image: String,
}

/// A restart or reload that a unit still needs, noted before its files changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The unit.
    pub unit: String,
    /// `restart` or `reload`.
    pub verb: String,
    /// The invocation that ran with the older files.
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
    /// Each check: what was checked, its exit status, its output.
    pub checks: Vec<(String, i32, String)>,
}

/// Reads the answer of `observe.sh`.
pub fn parse(output: &[u8]) -> Result<Observation> {
    let text = String::from_utf8_lossy(output);
    let mut reader = AnswerReader::default();
    let mut section = "";
    for line in text.lines() {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) if SECTIONS.contains(&name) => {
                reader.end_of_section();
                section = name;
            }
            _ => reader.line(section, line),
        }
    }
    reader.end_of_section();
    if section != "end" {
        let error = Error::new(Kind::Host, "the host's answer broke off");
        return Err(error.hint("is the host short of memory or processes? Try again; `--verbose` shows its answer"));
    }
    Ok(reader.answer)
}

const SECTIONS: [&str; 12] = [
    "basics",
    "paths",
    "contents",
    "ledgers",
    "left",
    "units",
    "packages",
    "containers",
    "images",
    "facts",
    "preflight",
    "end",
];

#[derive(Default)]
struct AnswerReader {
    answer: Observation,
    /// Paths that are links, and how many targets have come so far.
    links: Vec<Utf8PathBuf>,
    targets: usize,
    content: Option<(Utf8PathBuf, String)>,
    ledger: Option<(String, String)>,
    unit: BTreeMap<String, String>,
    check: Option<(String, String)>,
}

impl AnswerReader {
    fn line(&mut self, section: &str, line: &str) {
        match section {
            "basics" => self.basics(line),
            "paths" => self.path(line),
            "contents" => self.content(line),
            "ledgers" => self.ledger(line),
            "left" => self.left(line),
            "units" => self.unit(line),
            "packages" => self.package(line),
            "containers" => self.container(line),
            "images" => self.answer.images.get_or_insert_default().line(line),
            "facts" => fact(self.answer.facts.get_or_insert_default(), line),
            "preflight" => self.verdict(line),
            _ => {}
        }
    }

    fn basics(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("uid", uid) => self.answer.uid = uid.parse().unwrap_or(u32::MAX),
            ("boot", boot) => self.answer.boot = boot.into(),
            ("state", state) => self.answer.state = state.into(),
            ("systemd", _) => self.answer.systemd = true,
            ("tool", tool) => {
                self.answer.tools.insert(tool.into());
            }
            _ => {}
        }
    }

    fn path(&mut self, line: &str) {
        let Some((what, rest)) = line.split_once(' ') else { return };
        match what {
            "a" => self.saw(rest.into(), Seen::Absent),
            "x" => self.saw(rest.into(), Seen::Unknown("we may not look into the directory above it".into())),
            "s" => {
                let Some((path, seen)) = stat_line(rest) else { return };
                if matches!(seen.thing, Thing::Link(_)) {
                    self.links.push(path.clone());
                }
                self.saw(path, Seen::Present(seen));
            }
            "d" => self.digest(rest),
            "n" => self.target(rest),
            _ => {}
        }
    }

    fn saw(&mut self, path: Utf8PathBuf, seen: Seen<PathSeen>) {
        self.answer.paths.insert(path, seen);
    }

    fn digest(&mut self, line: &str) {
        // sha256sum marks a line with a backslash where it had to escape the name.
        let (line, escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
        let Some((digest, path)) = line.split_once("  ") else { return };
        let path = if escaped { path.replace("\\\\", "\\") } else { path.to_string() };
        if let Some(Seen::Present(seen)) = self.answer.paths.get_mut(Utf8Path::new(&path)) {
            seen.thing = Thing::File(Digest::parse(digest));
        }
    }

    /// A line `PATH -> TARGET`, with quotes around both where busybox wrote it.
    fn target(&mut self, line: &str) {
        let Some(path) = self.links.get(self.targets) else { return };
        self.targets += 1;
        let plain = line.strip_prefix(&format!("{path} -> "));
        let quoted = line.strip_prefix(&format!("'{path}' -> '")).and_then(|rest| rest.strip_suffix('\''));
        if let (Some(target), Some(Seen::Present(seen))) = (plain.or(quoted), self.answer.paths.get_mut(path)) {
            seen.thing = Thing::Link(target.to_string());
        }
    }

    fn content(&mut self, line: &str) {
        if let Some(path) = line.strip_prefix("content ") {
            self.content = Some((path.into(), String::new()));
        } else if line == "." {
            let Some((path, text)) = self.content.take() else { return };
            if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) {
                self.answer.contents.insert(path, bytes);
            }
        } else if let Some((_, text)) = &mut self.content {
            text.push_str(line);
        }
    }

    fn ledger(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("ledger ") {
            self.end_of_ledger();
            self.ledger = Some((name.into(), String::new()));
        } else if let Some((_, text)) = &mut self.ledger {
            text.push_str(line);
            text.push('\n');
        }
    }

    fn end_of_ledger(&mut self) {
        if let Some((name, text)) = self.ledger.take() {
            self.answer.ledgers.insert(name, text);
        }
    }

    fn left(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("busy", who)) => self.answer.busy = Some(who.into()),
            Some(("run", run)) => self.answer.unfinished.push(run.into()),
            Some(("owed", owed)) => {
                let mut fields = owed.split('\t').map(str::to_string);
                let mut next = || fields.next().unwrap_or_default();
                let owed = Owed { unit: next(), verb: next(), invocation: next(), run: next(), why: next() };
                self.answer.owed.push(owed);
            }
            Some(("hold", hold)) => {
                let (stack, line) = hold.split_once('\t').unwrap_or((hold, ""));
                self.answer.holds.insert(stack.into(), Hold::parse(line));
            }
            _ => {}
        }
    }

    fn unit(&mut self, line: &str) {
        match line.split_once('=') {
            Some((key, value)) => {
                self.unit.insert(key.into(), value.into());
            }
            None if line.is_empty() => self.end_of_unit(),
            None => {}
        }
    }

    fn end_of_unit(&mut self) {
        let mut properties = std::mem::take(&mut self.unit);
        let mut take = |key: &str| properties.remove(key).unwrap_or_default();
        let names = take("Names");
        let unit = UnitSeen {
            load: take("LoadState"),
            active: take("ActiveState"),
            sub: take("SubState"),
            file_state: take("UnitFileState"),
            fragment: take("FragmentPath"),
            needs_reload: take("NeedDaemonReload") == "yes",
            invocation: take("InvocationID"),
            service_type: take("Type"),
            rests: take("Rests") == "yes",
        };
        for name in names.split_whitespace() {
            self.answer.units.insert(name.into(), unit.clone());
        }
    }

    fn package(&mut self, line: &str) {
        let mut words = line.split(' ');
        if let (Some(name), Some("installed"), Some(version)) = (words.next(), words.next(), words.next()) {
            self.answer.packages.insert(name.into(), version.into());
        }
    }

    fn container(&mut self, line: &str) {
        let containers = self.answer.containers.get_or_insert_with(|| Ok(Vec::new()));
        let Some(fields) = line.strip_prefix("c ") else {
            if line.starts_with("WARNING: ") {
                return;
            }
            // Anything else is Docker's own complaint.
            *containers = Err(line.strip_prefix("none ").unwrap_or(line).into());
            return;
        };
        let fields: Vec<&str> = fields.split('\t').collect();
        let [id, project, service, hash, oneoff, state, status, image] = fields[..] else { return };
        if let (Ok(containers), false) = (containers, oneoff == "True") {
            containers.push(ContainerSeen {
                id: id.into(),
                project: project.into(),
                service: service.into(),
                hash: hash.into(),
                state: state.into(),
                status: status.into(),
                image: image.into(),
            });
        }
    }

    fn verdict(&mut self, line: &str) {
        let verdicts = &mut self.answer.verdicts;
        if let Some(why) = line.strip_prefix("cannot ") {
            verdicts.cannot = Some(why.into());
        } else if let Some(what) = line.strip_prefix("check ") {
            self.check = Some((what.into(), String::new()));
        } else if let Some(said) = line.strip_prefix("| ") {
            if let Some((_, output)) = &mut self.check {
                output.push_str(said);
                output.push('\n');
            }
        } else if let Some(status) = line.strip_prefix("exit ")
            && let Some((what, output)) = self.check.take()
        {
            verdicts.checks.push((what, status.parse().unwrap_or(-1), output));
        }
    }

    fn end_of_section(&mut self) {
        self.end_of_ledger();
        self.end_of_unit();
    }
}

/// A line of `stat -c '%f %u %g %s %U %G %n'`.
fn stat_line(line: &str) -> Option<(Utf8PathBuf, PathSeen)> {
    let mut fields = line.splitn(7, ' ');
    let mut next = || fields.next();
    let raw = u32::from_str_radix(next()?, 16).ok()?;
    let ids = (next()?.parse().ok()?, next()?.parse().ok()?);
    let size = next()?.parse().ok()?;
    let owner = Owner { user: next()?.into(), group: next()?.into() };
    let path = next()?.into();
    let thing = match raw & 0xf000 {
        0x8000 => Thing::File(None),
        0x4000 => Thing::Directory,
        0xa000 => Thing::Link(String::new()),
        _ => Thing::Other,
    };
    Some((path, PathSeen { thing, raw_type: raw & 0xf000, mode: raw & 0o7777, ids, owner, size }))
}

fn fact(facts: &mut Facts, line: &str) {
    let (key, value) = line.split_once(' ').unwrap_or((line, ""));
    let version = |text: &str| {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find(|part| part.chars().next().is_some_and(|c| c.is_ascii_digit()))
            .unwrap_or("")
            .to_string()
    };
    match key {
        "cpus" => facts.cpus = value.parse().unwrap_or(0),
        "hostname" => facts.hostname = value.into(),
        "os" => {
            if let Some((key, value)) = value.split_once('=') {
                facts.os.insert(key.to_lowercase(), value.trim_matches('"').into());
            }
        }
        "memory" => {
            let kb: u64 = value.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0);
            facts.memory_mb = kb / 1024;
        }
        "address" => {
            if let Some(address) = value.split_whitespace().nth(3).and_then(|cidr| cidr.split('/').next()) {
                facts.addresses.push(address.into());
            }
        }
        "systemd" => facts.systemd = version(value),
        "nginx" => facts.nginx = version(value),
        "docker" => facts.docker = version(value),
        "compose" => facts.compose = version(value),
        "time" => facts.time = value.parse().unwrap_or(0),
        _ if facts.kernel.is_empty() => {
            facts.kernel = line.into();
            facts.arch = line.rsplit(' ').next().unwrap_or("").into();
        }
        _ => {}
    }
}
