//! `~/.ssh/config`: the part of it that says where a host is and how to get in.
//!
//! As in OpenSSH (`ssh_config(5)`), the first value found wins, except for `IdentityFile`, which adds up. Unknown
//! keywords are ignored: the file is written for ssh(1), not for us. `Match` blocks are skipped, except `Match all`.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::error::{Error, Kind, Result};

/// How deep `Include` may go: OpenSSH's own limit.
const MAX_INCLUDES: usize = 16;

/// Where configuration is looked for, and for whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// The home directory, for `~` and `%d`.
    pub home: Utf8PathBuf,
    /// The local user's name.
    pub user: String,
    /// The files, in order of precedence. One that does not exist is empty.
    pub files: Vec<Utf8PathBuf>,
}

impl Place {
    /// From the environment: `$HOME`, `$USER`, and `$RECONCILE_SSH_CONFIG`, which stands in for both
    /// `~/.ssh/config` and `/etc/ssh/ssh_config`, as `ssh -F` does.
    pub fn from_env() -> Self {
        let home = Utf8PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/".into()));
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".into());
        let files = match std::env::var("RECONCILE_SSH_CONFIG") {
            Ok(file) => vec![file.into()],
            Err(_) => vec![home.join(".ssh/config"), "/etc/ssh/ssh_config".into()],
        };
        Place { home, user, files }
    }
}

/// What stands between us and the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Nothing.
    None,
    /// These machines, in order, each as `[user@]host[:port]`.
    Jump(Vec<String>),
    /// A command, which we do not run.
    Command(String),
}

/// What is known about a host after all of the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The address or name to connect to.
    pub host_name: String,
    /// TCP port.
    pub port: u16,
    /// Login name.
    pub user: String,
    /// The name under which the host's key is looked up, where that is not `host_name`.
    pub key_alias: Option<String>,
    /// Private key files, in order.
    pub identities: Vec<Utf8PathBuf>,
    /// Whether `identities` were asked for, and are not the defaults.
    pub identities_given: bool,
    /// Only `identities` are tried, not whatever else the agent holds.
    pub identities_only: bool,
    /// The agent's socket: `None` for `$SSH_AUTH_SOCK`, an empty path for no agent.
    pub agent: Option<Utf8PathBuf>,
    /// What stands between.
    pub proxy: Proxy,
    /// The files of known host keys.
    pub known_hosts: Vec<Utf8PathBuf>,
    /// How often to ask whether the host is still there.
    pub alive_interval: Option<Duration>,
    /// How long the connection may take to come about.
    pub connect_timeout: Option<Duration>,
}

/// What the files say, before defaults.
#[derive(Default)]
struct Found {
    host_name: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    key_alias: Option<String>,
    identities: Vec<String>,
    identities_only: Option<bool>,
    agent: Option<String>,
    proxy: Option<Proxy>,
    known_hosts: Option<Vec<String>>,
    alive_interval: Option<u64>,
    connect_timeout: Option<u64>,
}

/// Reads the configuration for `alias`. `port` and `user`, where given, win over the files.
/// Fails with [`Kind::Usage`] if a file cannot be read or a value makes no sense.
pub fn resolve(place: &Place, alias: &str, port: Option<u16>, user: Option<&str>) -> Result<HostConfig> {
    let mut reading = Reading { place, alias, found: Found { port, user: user.map(Into::into), ..Found::default() } };
    for file in &place.files {
        reading.file(file, 0)?;
    }
    Ok(finish(place, alias, reading.found))
}

fn finish(place: &Place, alias: &str, found: Found) -> HostConfig {
    let host_name = match &found.host_name {
        Some(name) => name.replace("%h", alias).replace("%%", "%"),
        None => alias.to_string(),
    };
    let user = found.user.unwrap_or_else(|| place.user.clone());
    let port = found.port.unwrap_or(22);
    let expand = |text: &String| expand(place, text, &host_name, port, &user);
    let defaults = || ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| place.home.join(".ssh").join(name)).to_vec();
    let identities_given = !found.identities.is_empty();
    let identities =
        if identities_given { found.identities.iter().map(|file| expand(file).into()).collect() } else { defaults() };
    let known_hosts = match &found.known_hosts {
        Some(files) => files.iter().filter(|file| *file != "none").map(|file| expand(file).into()).collect(),
        None => ["known_hosts", "known_hosts2"].map(|name| place.home.join(".ssh").join(name)).to_vec(),
    };
    let proxy = match found.proxy.unwrap_or(Proxy::None) {
        Proxy::Jump(hops) => Proxy::Jump(hops.iter().map(expand).collect()),
        other => other,
    };
    let agent = found.agent.and_then(|agent| match agent.as_str() {
        "SSH_AUTH_SOCK" => None,
        "none" => Some(Utf8PathBuf::new()),
        path => match path.strip_prefix('$') {
            Some(variable) => std::env::var(variable.trim_matches(['{', '}'])).ok().map(Into::into),
            None => Some(expand(&path.to_string()).into()),
        },
    });
    HostConfig {
        identities_only: found.identities_only.unwrap_or(false),
        alive_interval: found.alive_interval.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        connect_timeout: found.connect_timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        key_alias: found.key_alias,
        identities_given,
        identities,
        known_hosts,
        proxy,
        agent,
        port,
        user,
        host_name,
    }
}

/// Expands `~/` and the percent tokens that make sense for a path or a hop.
fn expand(place: &Place, text: &str, host: &str, port: u16, user: &str) -> String {
    let text = match text.strip_prefix("~/") {
        Some(rest) => place.home.join(rest).into_string(),
        None => text.to_string(),
    };
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str(place.home.as_str()),
            Some('h') => out.push_str(host),
            Some('r') => out.push_str(user),
            Some('u') => out.push_str(&place.user),
            Some('p') => out.push_str(&port.to_string()),
            Some('%') | None => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

/// One pass over the files for one host.
struct Reading<'a> {
    place: &'a Place,
    alias: &'a str,
    found: Found,
}

impl Reading<'_> {
    fn file(&mut self, path: &Utf8Path, depth: usize) -> Result<()> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(Error::new(Kind::Usage, format!("cannot read {path}")).because(cause)),
        };
        if depth > MAX_INCLUDES {
            return Err(Error::new(Kind::Usage, format!("{path} is included too deeply")));
        }
        let mut applies = true;
        for (index, line) in text.lines().enumerate() {
            let Some((keyword, words)) = words(line) else { continue };
            match keyword.as_str() {
                "host" => applies = matches_any(self.alias, words.iter().map(String::as_str)),
                "match" => applies = words.len() == 1 && words[0].eq_ignore_ascii_case("all"),
                _ if !applies => {}
                "include" => {
                    for pattern in &words {
                        for file in self.included(pattern, path) {
                            self.file(&file, depth + 1)?;
                        }
                    }
                }
                _ => self.set(&keyword, &words).map_err(|why| {
                    Error::new(Kind::Usage, format!("{path}:{}: {why}", index + 1)).hint("see ssh_config(5)")
                })?,
            }
        }
        Ok(())
    }

    fn set(&mut self, keyword: &str, words: &[String]) -> Result<(), String> {
        let found = &mut self.found;
        let first = || words.first().cloned().ok_or_else(|| format!("`{keyword}` has no value"));
        match keyword {
            "hostname" => _ = found.host_name.get_or_insert(first()?),
            "user" => _ = found.user.get_or_insert(first()?),
            "hostkeyalias" => _ = found.key_alias.get_or_insert(first()?),
            "identityagent" => _ = found.agent.get_or_insert(first()?),
            "identityfile" => {
                let file = first()?;
                if file != "none" && !found.identities.contains(&file) {
                    found.identities.push(file);
                }
            }
            "port" => {
                let port = first()?.parse().map_err(|_| format!("`{}` is no port", words[0]))?;
                found.port.get_or_insert(port);
            }
            "identitiesonly" => _ = found.identities_only.get_or_insert(is_yes(&first()?)),
            "proxyjump" => {
                let value = first()?;
                let none = value.eq_ignore_ascii_case("none");
                let hops = || Proxy::Jump(value.split(',').map(|hop| hop.trim().to_string()).collect());
                found.proxy.get_or_insert(if none { Proxy::None } else { hops() });
            }
            "proxycommand" => {
                let none = first()?.eq_ignore_ascii_case("none");
                let proxy = if none { Proxy::None } else { Proxy::Command(words.join(" ")) };
                found.proxy.get_or_insert(proxy);
            }
            "userknownhostsfile" => _ = found.known_hosts.get_or_insert(words.to_vec()),
            "serveraliveinterval" => _ = found.alive_interval.get_or_insert(seconds(&first()?)?),
            "connecttimeout" if first()? != "none" => {
                found.connect_timeout.get_or_insert(seconds(&first()?)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The files that an `Include` means: relative to the directory of the user's own (or the system's) configuration,
    /// with wildcards in the last component.
    fn included(&self, pattern: &str, from: &Utf8Path) -> Vec<Utf8PathBuf> {
        let path = match pattern.strip_prefix("~/") {
            Some(rest) => self.place.home.join(rest),
            None if from.starts_with("/etc/ssh") => Utf8Path::new("/etc/ssh").join(pattern),
            None => self.place.home.join(".ssh").join(pattern),
        };
        let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else { return Vec::new() };
        if !name.contains(['*', '?']) {
            return vec![path];
        }
        let Ok(entries) = directory.read_dir_utf8() else { return Vec::new() };
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string()));
        let mut files: Vec<_> = names
            .filter(|file| wildcard(name, file) && !file.starts_with('.'))
            .map(|file| directory.join(file))
            .collect();
        files.sort();
        files
    }
}

fn is_yes(word: &str) -> bool {
    word.eq_ignore_ascii_case("yes") || word.eq_ignore_ascii_case("true")
}

/// A time as `ssh_config` writes it: seconds, or numbers with `s`, `m`, `h`, `d`, `w`.
fn seconds(word: &str) -> Result<u64, String> {
    let wrong = || format!("`{word}` is no time");
    let mut total = 0u64;
    let mut number = String::new();
    for c in word.chars() {
        let unit = match c.to_ascii_lowercase() {
            c if c.is_ascii_digit() => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = total.saturating_add(count.saturating_mul(unit));
        number.clear();
    }
    match number.parse::<u64>() {
        Ok(rest) => Ok(total.saturating_add(rest)),
        Err(_) if number.is_empty() && !word.is_empty() => Ok(total),
        Err(_) => Err(wrong()),
    }
}

/// The keyword in lower case and its arguments, or nothing for a blank line or a comment.
fn words(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut words = Vec::new();
    let mut chars = rest.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { break };
        if first == '#' {
            break;
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = chars.next_if(|c| quoted || !c.is_whitespace()) {
            if c == '"' {
                quoted = !quoted;
            } else {
                word.push(c);
            }
        }
        words.push(word);
    }
    Some((keyword.to_ascii_lowercase(), words))
}

/// Whether `name` is matched by one of `patterns` and excluded by none that begins with `!`.
pub fn matches_any<'p>(name: &str, patterns: impl IntoIterator<Item = &'p str>) -> bool {
    let mut matched = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard(pattern, name) => return false,
            Some(_) => {}
            None => matched |= wildcard(pattern, name),
        }
    }
    matched
}

/// Whether `text` matches `pattern`, where `*` stands for anything and `?` for one character.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
