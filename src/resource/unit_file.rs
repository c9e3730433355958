//! Unit files: reading them, and what a change of one asks of systemd.

use std::collections::{BTreeMap, BTreeSet};

/// What must be done after a unit file has changed.
#[expect(clippy::struct_excessive_bools, reason = "four independent things to do")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impact {
    /// systemd must read its files anew.
    pub daemon_reload: bool,
    /// The links of `[Install]` must be made anew.
    pub reenable: bool,
    /// A reload of the unit is enough for it to take effect.
    pub reload: bool,
    /// The unit must be restarted to take effect.
    pub restart: bool,
    /// The directives that differ, such as `Environment`, in order.
    pub changed: Vec<String>,
}

/// The directives of a unit file: section and key, and the values that hold in the end.
pub type Directives = BTreeMap<(String, String), Vec<String>>;

/// `[Unit]` directives that the running process never sees.
const UNIT_QUIET: [&str; 14] = [
    "Description",
    "Documentation",
    "After",
    "Before",
    "Wants",
    "Requires",
    "Requisite",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "StartLimitIntervalSec",
    "StartLimitBurst",
    "RefuseManualStart",
    "RefuseManualStop",
];

/// `[Service]` directives that systemd itself consults when the moment comes, after a daemon-reload.
const SERVICE_QUIET: [&str; 14] = [
    "Restart",
    "RestartSec",
    "RestartSteps",
    "RestartMaxDelaySec",
    "RestartPreventExitStatus",
    "RestartForceExitStatus",
    "SuccessExitStatus",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "KillMode",
    "KillSignal",
    "SendSIGKILL",
    "ExecReload",
    "ExecStop",
];

/// What changing a unit file from `before` to `after` asks of systemd.
pub fn impact(before: &str, after: &str) -> Impact {
    let mut impact = Impact { daemon_reload: before != after, ..Impact::default() };
    let (old, new) = (parse(before), parse(after));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        if old.get(key) == new.get(key) {
            continue;
        }
        let (section, directive) = key;
        impact.changed.push(directive.clone());
        match section.as_str() {
            "Install" => impact.reenable = true,
            "Unit" if UNIT_QUIET.contains(&directive.as_str()) => {}
            "Service" if SERVICE_QUIET.contains(&directive.as_str()) => {}
            // `X-…` is for other programs; systemd ignores it.
            section if section.starts_with("X-") || directive.starts_with("X-") => {}
            _ => impact.restart = true,
        }
    }
    impact
}

/// Reads a unit file. Lines that make no sense are left out, as systemd does.
pub fn parse(text: &str) -> Directives {
    let mut directives = Directives::new();
    let mut section = String::new();
    for line in logical_lines(text) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_string();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim().to_string(), value.trim().to_string());
        let values = directives.entry((section.clone(), key)).or_default();
        // An empty assignment forgets what was said before.
        if value.is_empty() {
            values.clear();
        } else {
            values.push(value);
        }
    }
    directives.retain(|_, values| !values.is_empty());
    directives
}

/// The last value of a directive.
pub fn value<'a>(directives: &'a Directives, section: &str, key: &str) -> Option<&'a str> {
    directives.get(&(section.to_string(), key.to_string()))?.last().map(String::as_str)
}

/// Lines with comments left out and continuations joined. A comment inside a continuation does not end it.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let start = line.trim_start();
        if start.starts_with('#') || start.starts_with(';') {
            continue;
        }
        let (part, goes_on) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        let joined = match current.take() {
            Some(before) => format!("{before} {}", part.trim_start()),
            None => part.to_string(),
        };
        if goes_on {
            current = Some(joined);
        } else {
            lines.push(joined);
        }
    }
    lines.extend(current);
    lines
}
