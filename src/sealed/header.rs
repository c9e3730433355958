//! The header of an age file: whom it is for, as far as it says that without any key.

use std::io::Read as _;

use age::armor::ArmoredReader;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How an age file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// How an age file in text form begins.
pub const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// One of those that an age file is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stanza {
    /// The holder of an age key. Which one it is cannot be seen.
    Age,
    /// The holder of an SSH key of this type, by the first bytes of the key's digest.
    Ssh {
        /// `ssh-ed25519` or `ssh-rsa`.
        kind: String,
        /// Four bytes of the key's digest, in base64.
        tag: String,
    },
    /// Whoever knows a passphrase.
    Passphrase,
    /// Something that is not known here, such as a plugin's.
    Other(String),
}

impl Stanza {
    /// The stanza that an SSH key finds itself by: its type, and its public half in wire form.
    pub fn ssh(kind: &str, wire: &[u8]) -> Self {
        let tag = STANDARD_NO_PAD.encode(&Sha256::digest(wire)[..4]);
        Stanza::Ssh { kind: kind.into(), tag }
    }
}

impl std::fmt::Display for Stanza {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stanza::Age => f.write_str("an age key"),
            Stanza::Ssh { kind, tag } => write!(f, "an {kind} key (tag {tag})"),
            Stanza::Passphrase => f.write_str("a passphrase"),
            Stanza::Other(kind) => write!(f, "`{kind}`"),
        }
    }
}

/// Whether these bytes are an age file, by how they begin.
pub fn is_age(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    bytes.starts_with(MAGIC) || bytes[start..].starts_with(ARMOR)
}

/// The bytes of an age file without its armor, or what is wrong with the armor.
pub fn dearmored(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let read = ArmoredReader::new(bytes).read_to_end(&mut plain);
    read.map_err(|_| "is damaged: its armor is not whole".to_string())?;
    Ok(plain)
}

/// Whom an age file without armor is for, or what is wrong with its header.
pub fn stanzas(bytes: &[u8]) -> Result<Vec<Stanza>, String> {
    let damaged = || "is damaged: its header is not whole".to_string();
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let mut found = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| damaged())?;
        rest = &rest[end + 1..];
        if line.starts_with("--- ") {
            break;
        }
        let Some(words) = line.strip_prefix("-> ") else { continue };
        let mut words = words.split(' ');
        let stanza = match (words.next().unwrap_or_default(), words.next()) {
            ("X25519", _) => Stanza::Age,
            (kind @ ("ssh-ed25519" | "ssh-rsa"), Some(tag)) => Stanza::Ssh { kind: kind.into(), tag: tag.into() },
            ("scrypt", _) => Stanza::Passphrase,
            // Stanzas that are there so that readers get used to unknown ones.
            (kind, _) if kind.ends_with("-grease") => continue,
            (kind, _) => Stanza::Other(kind.escape_default().to_string()),
        };
        found.push(stanza);
    }
    found.sort();
    if found.is_empty() { Err(damaged()) } else { Ok(found) }
}
