//! Whether a host is the one it says it is: pinned keys and `known_hosts` (`sshd(8)`, under "SSH known hosts file format").
//!
//! Our own check, because libssh2's has none of wildcards, negation and `@revoked`, and takes a host that is known by
//! another type of key for a changed one. `@cert-authority` lines are skipped: host certificates are never asked for.

use camino::{Utf8Path, Utf8PathBuf};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use ssh_key::known_hosts::HostPatterns;
use ssh_key::{HashAlg, PublicKey};

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::config::matches_any;

/// The file that everybody on this machine shares.
const GLOBAL: &str = "/etc/ssh/ssh_known_hosts";

/// One key that is known, or known to be bad.
struct KnownKey {
    key: PublicKey,
    /// `file:line`, or that it is pinned.
    place: String,
    revoked: bool,
    /// The line names the host without its port, while the port is not 22: it can confirm, but not contradict.
    without_port: bool,
}

/// All that is known about one host's keys.
pub struct Known {
    /// As the host stands in `known_hosts`: `host` or `[host]:port`.
    name: String,
    keys: Vec<KnownKey>,
    /// Where a new line belongs.
    file: Option<Utf8PathBuf>,
    pinned: bool,
}

impl Known {
    /// Only these keys, each as `ssh-ed25519 AAAA…`. One that cannot be read fails with [`Kind::Config`].
    pub fn pinned(host: &str, port: u16, keys: &[String]) -> Result<Self> {
        let parse = |text: &String| match PublicKey::from_openssh(text.trim()) {
            Ok(key) => Ok(KnownKey { key, place: "pinned".into(), revoked: false, without_port: false }),
            Err(cause) => Err(Error::new(Kind::Config, format!("the host key `{text}` of {host} is not a public key"))
                .hint(format!("`ssh-keyscan {host}` prints it, as type and base64"))
                .because(cause)),
        };
        let keys = keys.iter().map(parse).collect::<Result<_>>()?;
        Ok(Known { name: lookup_name(host, port), keys, file: None, pinned: true })
    }

    /// What `files` and the machine's own `/etc/ssh/ssh_known_hosts` say. Files that do not exist say nothing; lines
    /// that cannot be read are passed over, as OpenSSH does. A file that exists and cannot be read fails.
    pub fn read(host: &str, port: u16, files: &[Utf8PathBuf]) -> Result<Self> {
        let mut known =
            Known { name: lookup_name(host, port), keys: Vec::new(), file: files.first().cloned(), pinned: false };
        for file in files.iter().map(Utf8PathBuf::as_path).chain([Utf8Path::new(GLOBAL)]) {
            match std::fs::read(file) {
                Ok(bytes) => known.add(&String::from_utf8_lossy(&bytes), file, host, port),
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => {
                    return Err(Error::new(Kind::HostKey, format!("cannot read {file}"))
                        .hint("without it, no host can be told from another")
                        .because(cause));
                }
            }
        }
        Ok(known)
    }

    fn add(&mut self, text: &str, file: &Utf8Path, host: &str, port: u16) {
        let host = host.to_ascii_lowercase();
        for (index, line) in text.lines().enumerate() {
            let Some((revoked, hosts, key)) = fields(line) else { continue };
            let exact = names(hosts, &self.name);
            if !exact && (port == 22 || !names(hosts, &host)) {
                continue;
            }
            let Ok(key) = PublicKey::from_openssh(&key) else { continue };
            let place = format!("{file}:{}", index + 1);
            self.keys.push(KnownKey { key, place, revoked, without_port: !exact });
        }
    }

    /// The order in which to ask for host key algorithms: first those of known keys, then the rest of `supported`, so
    /// that a host that has several keys shows the one that is known, and a changed one is still seen. Certificates
    /// are left out: they would be compared with plain keys, and look like a change.
    pub fn preference(&self, supported: &[&str]) -> String {
        let is_known = |algorithm: &str| {
            let good = self.keys.iter().filter(|known| !known.revoked);
            good.map(|known| known.key.algorithm()).any(|known| match known.as_str() {
                "ssh-rsa" => matches!(algorithm, "ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512"),
                known => known == algorithm,
            })
        };
        let plain = supported.iter().filter(|algorithm| !algorithm.contains("-cert-"));
        let (known, rest): (Vec<&str>, Vec<&str>) = plain.copied().partition(|algorithm| is_known(algorithm));
        [known, rest].concat().join(",")
    }

    /// Accepts the key with this wire encoding, or fails with [`Kind::HostKey`]: unknown, changed, or revoked.
    pub fn check(&self, blob: &[u8]) -> Result<()> {
        let shown = PublicKey::from_bytes(blob).map_err(|cause| {
            Error::new(Kind::HostKey, format!("{} shows a host key of a kind we cannot read", self.name)).because(cause)
        })?;
        let same = |known: &&KnownKey| known.key.key_data() == shown.key_data();
        if let Some(bad) = self.keys.iter().find(|known| known.revoked && same(known)) {
            return Err(Error::new(
                Kind::HostKey,
                format!("{} shows a key that is revoked in {}", self.name, bad.place),
            )
            .hint("somebody may be posing as this host; do not connect until you know why the key was revoked"));
        }
        let mut good = self.keys.iter().filter(|known| !known.revoked);
        if good.clone().any(|known| same(&known)) {
            return Ok(());
        }
        match good.find(|known| !known.without_port) {
            Some(old) => Err(self.changed(&shown, old)),
            None => Err(self.unknown(&shown)),
        }
    }

    fn unknown(&self, shown: &PublicKey) -> Error {
        let line = openssh(shown);
        let file = self.file.as_deref().map_or("known_hosts", Utf8Path::as_str);
        Error::new(
            Kind::HostKey,
            format!("the host key of {} is not known: {}", self.name, describe(shown)),
        )
        .hint(format!(
            "compare the fingerprint on the host itself (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then either pin it \
             in hosts/*.kdl:\n    host-key \"{line}\"\nor add this line to {file}:\n    {} {line}",
            self.name
        ))
    }

    fn changed(&self, shown: &PublicKey, old: &KnownKey) -> Error {
        let what = format!(
            "THE HOST KEY OF {} HAS CHANGED: known is {} ({}), shown is {}",
            self.name,
            describe(&old.key),
            old.place,
            describe(shown)
        );
        let line = openssh(shown);
        let mend = if self.pinned {
            format!("replace the `host-key` in hosts/*.kdl by:\n    host-key \"{line}\"")
        } else {
            format!("replace {} by:\n    {} {line}", old.place, self.name)
        };
        Error::new(Kind::HostKey, what)
            .hint(format!("somebody may be posing as this host. Only if you know that it was reinstalled, {mend}"))
    }
}

/// The key as type and base64, without a comment.
fn openssh(key: &PublicKey) -> String {
    let mut key = key.clone();
    key.set_comment("");
    key.to_openssh().map(|text| text.trim().to_string()).unwrap_or_default()
}

fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// How `known_hosts` names a host and port.
fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Splits a line into whether it revokes, its host field, and its key as type and base64.
/// Nothing for blanks, comments, unknown markers and `@cert-authority`.
fn fields(line: &str) -> Option<(bool, &str, String)> {
    let mut words = line.split_whitespace();
    let first = words.next().filter(|word| !word.starts_with('#'))?;
    let (revoked, hosts) = match first {
        "@revoked" => (true, words.next()?),
        marker if marker.starts_with('@') => return None,
        hosts => (false, hosts),
    };
    Some((revoked, hosts, format!("{} {}", words.next()?, words.next()?)))
}

/// Whether the host field of a line names `name`.
fn names(hosts: &str, name: &str) -> bool {
    match hosts.parse() {
        Ok(HostPatterns::HashedName { salt, hash }) => {
            let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
            mac.update(name.as_bytes());
            mac.verify_slice(&hash).is_ok()
        }
        Ok(HostPatterns::Patterns(patterns)) => {
            let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
            matches_any(name, patterns.iter().map(String::as_str))
        }
        Err(_) => false,
    }
}
