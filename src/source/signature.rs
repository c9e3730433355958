//! Who signed a commit. SSH signatures are verified as `git verify-commit` does; PGP ones are only noticed.
//!
//! Facts: a signature is over the commit without its `gpgsig` header, in the namespace `git` (`ssh-keygen(1)`, `-Y`);
//! who may sign stands in an allowed-signers file (`ssh-keygen(1)`, under "allowed signers").

use camino::Utf8PathBuf;
use git2::{Oid, Repository};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::{HashAlg, PublicKey, SshSig};

use crate::host::ssh::config::matches_any;

const NAMESPACE: &str = "git";

/// What a commit's signature is worth.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Signature {
    /// There is none.
    None,
    /// It is right, and the key is allowed to sign.
    Good {
        /// Whose key it is, as the allowed-signers file says.
        signer: String,
        /// The key's fingerprint.
        key: String,
    },
    /// There is one, and nothing is known against it, but it does not tell who signed.
    Unverified {
        /// The key's fingerprint, where it has one.
        key: Option<String>,
        /// Why it could not be verified.
        why: String,
    },
    /// It is wrong: the commit is not what was signed.
    Bad {
        /// What is wrong.
        why: String,
    },
}

impl Signature {
    fn unverified(key: Option<String>, why: impl Into<String>) -> Self {
        Signature::Unverified { key, why: why.into() }
    }
}

/// What the signature of commit `id`, made at `time`, is worth.
pub fn of(repository: &Repository, id: Oid, time: Timestamp) -> Signature {
    // The only thing that goes wrong with a commit that we have just read is that there is no signature.
    let Ok((signature, content)) = repository.extract_signature(&id, None) else { return Signature::None };
    let text = String::from_utf8_lossy(&signature);
    if !text.contains("-----BEGIN SSH SIGNATURE-----") {
        return Signature::unverified(None, "signed, not verified: only SSH signatures are");
    }
    let Some(file) = allowed_signers_file(repository) else {
        return judge(text.trim(), &content, time, "", "there is no allowed-signers file");
    };
    match std::fs::read_to_string(&file) {
        Ok(allowed) => judge(text.trim(), &content, time, &allowed, &format!("the key is not in {file}")),
        Err(cause) => judge(text.trim(), &content, time, "", &format!("{file}: {cause}")),
    }
}

/// `gpg.ssh.allowedSignersFile` of Git's configuration, else `~/.config/git/allowed_signers` if it is there.
fn allowed_signers_file(repository: &Repository) -> Option<Utf8PathBuf> {
    let configured = repository.config().and_then(|config| config.get_path("gpg.ssh.allowedSignersFile"));
    if let Ok(path) = configured {
        return Utf8PathBuf::from_path_buf(path).ok();
    }
    let home = std::env::var("HOME").ok()?;
    let file = Utf8PathBuf::from(home).join(".config/git/allowed_signers");
    file.exists().then_some(file)
}

/// Judges an armoured signature of `content` by the text of an allowed-signers file; `otherwise` says what it means if
/// the key is not allowed.
fn judge(armoured: &str, content: &[u8], time: Timestamp, allowed: &str, otherwise: &str) -> Signature {
    let bad = |why: &str| Signature::Bad { why: why.into() };
    let Ok(signature) = SshSig::from_pem(armoured) else { return bad("the signature cannot be read") };
    if signature.namespace() != NAMESPACE {
        return bad("the signature was made for something else than Git");
    }
    let key = PublicKey::from(signature.public_key().clone());
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    match key.verify(NAMESPACE, content, &signature) {
        Ok(()) => {}
        Err(ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. }) => {
            return Signature::unverified(Some(fingerprint), "keys of this type cannot be verified here");
        }
        Err(_) => return bad("the commit is not what was signed"),
    }
    let mut why = otherwise.to_string();
    for line in allowed.lines() {
        let Some(signer) = Signer::parse(line).filter(|signer| signer.key.key_data() == key.key_data()) else {
            continue;
        };
        match signer.refuses(time) {
            None => return Signature::Good { signer: signer.names, key: fingerprint },
            Some(refusal) => why = refusal.into(),
        }
    }
    Signature::unverified(Some(fingerprint), why)
}

/// One line of an allowed-signers file.
struct Signer {
    names: String,
    key: PublicKey,
    namespaces: Option<String>,
    after: Option<String>,
    before: Option<String>,
}

impl Signer {
    /// Nothing for blanks, comments, certificate authorities (not supported) and what cannot be read.
    fn parse(line: &str) -> Option<Signer> {
        let words = split(line.trim(), char::is_whitespace);
        let (names, rest) = words.split_first().filter(|(names, _)| !names.starts_with('#'))?;
        let is_key =
            |words: &[String]| PublicKey::from_openssh(&words.iter().take(2).cloned().collect::<Vec<_>>().join(" "));
        let (options, key) = match is_key(rest) {
            Ok(key) => (Vec::new(), key),
            Err(_) => (split(rest.first()?, |c| c == ','), is_key(rest.get(1..)?).ok()?),
        };
        let mut signer = Signer { names: unquoted(names), key, namespaces: None, after: None, before: None };
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((&option, ""));
            let value = Some(unquoted(value));
            match name.to_ascii_lowercase().as_str() {
                "namespaces" => signer.namespaces = value,
                "valid-after" => signer.after = value,
                "valid-before" => signer.before = value,
                // A certificate authority's own key signs nothing; an option nobody knows may well forbid it.
                _ => return None,
            }
        }
        Some(signer)
    }

    /// Why this line does not allow a signature made at `time`.
    fn refuses(&self, time: Timestamp) -> Option<&'static str> {
        let namespaces = self.namespaces.as_deref();
        if namespaces.is_some_and(|namespaces| !matches_any(NAMESPACE, namespaces.split(','))) {
            return Some("the key may sign, but not in Git");
        }
        // A limit that cannot be read is kept by refusing.
        if self.after.as_deref().is_some_and(|after| moment(after).is_none_or(|after| time < after)) {
            return Some("the key was not valid yet");
        }
        if self.before.as_deref().is_some_and(|before| moment(before).is_none_or(|before| time >= before)) {
            return Some("the key was not valid any more");
        }
        None
    }
}

/// `YYYYMMDD[HHMM[SS]][Z]`: local time, unless there is a `Z`.
fn moment(text: &str) -> Option<Timestamp> {
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<i8>().ok());
    let year = digits[..4].parse().ok()?;
    let date = DateTime::new(year, number(4, 6)?, number(6, 8)?, number(8, 10)?, number(10, 12)?, number(12, 14)?, 0);
    Some(date.ok()?.to_zoned(zone).ok()?.timestamp())
}

/// Splits outside of double quotes; empty parts are left out.
fn split(text: &str, at: impl Fn(char) -> bool) -> Vec<String> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        !quoted && at(c)
    });
    parts.filter(|part| !part.is_empty()).map(Into::into).collect()
}

fn unquoted(text: &str) -> String {
    text.trim_matches('"').to_string()
}
