//! What a host says of itself: the answer of `observe.sh`, read.

use std::collections::BTreeMap;

use base64::Engine as _;
use camino::{Utf8Path, Utf8PathBuf};

use crate::base::digest::Digest;
use crate::base::error::{Error, Kind, Result};
use crate::host::hold::Hold;
use crate::host::observation::{ContainerSeen, Facts, Observation, Owed, PathSeen, Seen, Thing, UnitSeen};

/// Reads the answer of `observe.sh`.
pub fn parse(output: &[u8]) -> Result<Observation> {
    let text = String::from_utf8_lossy(output);
    let mut reader = AnswerReader::default();
    let mut section = "";
    for (line, raw) in text.lines().zip(output.split(|byte| *byte == b'\n')) {
        reader.raw_length = raw.len();
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) if SECTIONS.contains(&name) => {
                reader.end_of_section();
                section = name;
            }
            _ => reader.line(section, line),
        }
    }
    reader.end_of_section();
    if let Some(link) = reader.broken_link {
        let error = Error::new(
            Kind::Host,
            format!("{link} is a link to a name that cannot be read: is there a line break in it?"),
        );
        return Err(
            error.hint("remove it there, or try again where it has just changed; nothing seen beside it is trusted")
        );
    }
    if section != "end" {
        let error = Error::new(Kind::Host, "the host's answer broke off");
        return Err(error.hint("is the host short of memory or processes? Try again; `--verbose` shows its answer"));
    }
    Ok(reader.answer)
}

const SECTIONS: [&str; 13] = [
    "basics",
    "paths",
    "digests",
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
    /// The path that `stat` spoke of last.
    last: Utf8PathBuf,
    /// How many bytes the line had on the host: what is not UTF-8 is other ones here.
    raw_length: usize,
    /// A link whose target is longer than its line.
    broken_link: Option<Utf8PathBuf>,
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
            "digests" => self.digest(line),
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
                let Some((path, seen)) = PathSeen::read(rest) else { return };
                self.last.clone_from(&path);
                self.saw(path, Seen::Present(seen));
            }
            "n" => self.target(rest, line),
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

    /// `PATH -> TARGET` of the last path if it is a link, with quotes around both where busybox wrote it.
    fn target(&mut self, line: &str, whole: &str) {
        let path = &self.last;
        let plain = line.strip_prefix(&format!("{path} -> "));
        let quoted = line.strip_prefix(&format!("'{path}' -> '")).and_then(|rest| rest.strip_suffix('\''));
        if let Some(Seen::Present(seen)) = self.answer.paths.get_mut(path)
            && let Thing::Link(known) = &mut seen.thing
        {
            let target = plain.or(quoted).unwrap_or_default();
            *known = target.to_string();
            // What comes next may be more of the target, and look like anything. (Links of the kernel's own have no size.)
            let length = (target.len() + self.raw_length).saturating_sub(whole.len());
            if u64::try_from(length).is_ok_and(|length| length < seen.size) {
                self.broken_link = Some(path.clone());
            }
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

    /// As `tail -v` shows several files: the name of each, and an empty line between two.
    fn ledger(&mut self, line: &str) {
        if let Some(path) = line.strip_prefix("==> ").and_then(|rest| rest.strip_suffix(" <==")) {
            self.end_of_ledger();
            let path = Utf8Path::new(path);
            let name = path.strip_prefix(&self.answer.state).unwrap_or(path);
            self.ledger = Some((name.to_string(), String::new()));
        } else if let Some((_, text)) = self.ledger.as_mut().filter(|_| !line.is_empty()) {
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
        let [id, project, service, hash, oneoff, compose, state, status, image] = fields[..] else { return };
        if let (Ok(containers), false) = (containers, oneoff == "True") {
            containers.push(ContainerSeen {
                id: id.into(),
                project: project.into(),
                service: service.into(),
                hash: hash.into(),
                compose: release(compose).into(),
                state: state.into(),
                status: status.into(),
                image: image.into(),
            });
        }
    }

    fn verdict(&mut self, line: &str) {
        let verdicts = &mut self.answer.verdicts;
        if let Some(version) = line.strip_prefix("composer ") {
            verdicts.compose = Some(release(version).into());
        } else if let Some(why) = line.strip_prefix("cannot ") {
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

/// A version without what packagers add to it: the labels of containers do not have that.
fn release(version: &str) -> &str {
    version.trim().trim_start_matches('v').split(['-', '+']).next().unwrap_or_default()
}

/// A fact: its name, and what it is.
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
