//! The recipients of the repository's secrets, and encrypting for them.

use std::io::Write as _;
use std::sync::Arc;

use age::armor::{ArmoredWriter, Format};

use crate::base::diagnostic::{Problem, Problems, Source, Span};
use crate::base::error::{Error, Kind, Result};
use crate::sealed::header::Stanza;

/// How an identity begins, which has no business in a list of recipients.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// Whom secrets are encrypted for.
pub struct Recipients(Vec<Recipient>);

struct Recipient {
    /// The key as it is written, without a comment.
    text: String,
    stanza: Stanza,
    key: Box<dyn age::Recipient>,
}

impl Recipients {
    /// Reads the file of recipients: one key a line, as `age1…`, `ssh-ed25519 …` or `ssh-rsa …`; `#` begins a comment.
    pub fn parse(source: &Arc<Source>) -> Result<Recipients, Problems> {
        let (mut found, mut problems): (Vec<Recipient>, _) = (Vec::new(), Problems::default());
        // A problem shows the line it is about.
        let hidden = source
            .text
            .split_inclusive('\n')
            .map(|line| line.split_once(IDENTITY).map_or(line.into(), |(start, _)| format!("{start}{IDENTITY}…\n")));
        let source = &Source::new(source.path.clone(), hidden.collect::<String>());
        let mut offset = 0;
        for line in source.text.split_inclusive('\n') {
            let key = line.trim();
            let at = Span::new(source, offset + line.len() - line.trim_start().len(), key.len());
            offset += line.len();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            match recipient(key) {
                Ok(new) if found.iter().any(|other| other.text == new.text) => {
                    problems.push(Problem::warning("this recipient is there twice").at(&at, "the second time"));
                }
                Ok(new) => found.push(new),
                Err((why, hint)) => problems.push(Problem::error(why).at(&at, "here").hint(hint)),
            }
        }
        if found.is_empty() && problems.errors() == 0 {
            let problem = Problem::error("no recipient is listed").at(&Span::new(source, 0, 0), "");
            problems.push(problem.hint("`reconcile secret init` makes an identity and lists its recipient"));
        }
        if problems.errors() == 0 { Ok(Recipients(found)) } else { Err(problems) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether `key` is one of them.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|recipient| recipient.text == key)
    }

    /// Whether a file with these stanzas is for exactly these recipients, as far as that can be seen: age keys can be
    /// counted, but not told apart.
    pub fn fit(&self, stanzas: &[Stanza]) -> bool {
        let mut own: Vec<&Stanza> = self.0.iter().map(|recipient| &recipient.stanza).collect();
        own.sort();
        own.into_iter().eq(stanzas)
    }

    /// Encrypts for all of them, as text if wanted.
    pub fn encrypt(&self, content: &[u8], armored: bool) -> Result<Vec<u8>> {
        let failed = |cause: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("encryption failed: {cause}"));
        let keys = self.0.iter().map(|recipient| recipient.key.as_ref());
        let encryptor = age::Encryptor::with_recipients(keys).map_err(|cause| failed(&cause))?;
        let format = if armored { Format::AsciiArmor } else { Format::Binary };
        let mut sealed = Vec::new();
        let written = (|| {
            let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(&mut sealed, format)?)?;
            writer.write_all(content)?;
            writer.finish()?.finish()
        })();
        written.map_err(|cause| failed(&cause))?;
        Ok(sealed)
    }
}

fn recipient(key: &str) -> Result<Recipient, (String, String)> {
    let kinds = "write age1…, ssh-ed25519 … or ssh-rsa …, one a line, and comments after a `#` at the line's beginning";
    if key.starts_with(IDENTITY) {
        let why = "this is an identity, which is secret, not a recipient".to_string();
        return Err((why, "it must not be in the repository: make another one, and list its recipient here".into()));
    }
    if let Some(rest) = key.strip_prefix("age1") {
        let parsed = key.split_whitespace().next().unwrap_or(key).parse::<age::x25519::Recipient>();
        return match parsed {
            Ok(parsed) => Ok(Recipient { text: parsed.to_string(), stanza: Stanza::Age, key: Box::new(parsed) }),
            Err(_) if rest.contains('1') && rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                Err(("recipients of plugins are not supported".into(), kinds.into()))
            }
            Err(_) => Err(("this is not the recipient of an age key".into(), kinds.into())),
        };
    }
    let mut words = key.split_whitespace();
    let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !kind.starts_with("ssh-") {
        return Err(("this is no recipient".into(), kinds.into()));
    }
    // The comment is the owner's, and not part of the key.
    let text = format!("{kind} {body}");
    let parsed = text.parse::<age::ssh::Recipient>();
    let wire = ssh_key::PublicKey::from_openssh(&text).ok().and_then(|key| key.to_bytes().ok());
    match (parsed, wire) {
        (Ok(parsed), Some(wire)) => Ok(Recipient { stanza: Stanza::ssh(kind, &wire), text, key: Box::new(parsed) }),
        _ => Err((
            "this SSH key cannot be a recipient".into(),
            "ed25519 keys can, and RSA keys of 2048 bits or more".into(),
        )),
    }
}
