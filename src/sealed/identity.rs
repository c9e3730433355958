//! Identities: the keys that open what is encrypted, and where they are looked for.
//!
//! In this order: the files that were named, the environment, the usual places of this program and of SOPS, the
//! user's SSH keys. Nothing is read before something is to be opened, and nobody is asked for a passphrase before
//! everything else has failed and the key in question is one that the file is for.

use std::cell::{OnceCell, RefCell};
use std::io::{self, Read as _};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor};
use camino::{Utf8Path, Utf8PathBuf};
use zeroize::Zeroizing;

use crate::base::error::{Error, Kind, Result};
use crate::base::secret::Secret;
use crate::host::transport::Prompt;
use crate::sealed::Locked;
use crate::sealed::header::{self, Stanza};

/// How often a person may mistype a passphrase.
const PASSPHRASE_TRIES: usize = 3;
/// The variables that hold identities themselves.
const KEYS: [&str; 2] = ["RECONCILE_AGE_IDENTITY", "SOPS_AGE_KEY"];
/// The variable that names a file of identities as SOPS does. Our own one is an option of the command line.
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

/// What reading may ask of the world outside of the repository.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Variables of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Files by absolute path.
    pub read: &'a dyn Fn(&Utf8Path) -> io::Result<Vec<u8>>,
    /// Who is asked for passphrases.
    pub prompt: &'a dyn Prompt,
    /// Files of identities that were named by the person who called.
    pub identities: &'a [Utf8PathBuf],
}

impl World<'_> {
    /// The file in which this program keeps an identity of its own.
    pub fn own_identity(&self) -> Utf8PathBuf {
        self.config().join("reconcile/identity")
    }

    /// The directory of configuration.
    fn config(&self) -> Utf8PathBuf {
        let set = (self.env)("XDG_CONFIG_HOME").filter(|path| path.starts_with('/'));
        set.map_or_else(|| self.home().join(".config"), Utf8PathBuf::from)
    }

    fn home(&self) -> Utf8PathBuf {
        (self.env)("HOME").unwrap_or_else(|| "/".into()).into()
    }
}

/// The identities there are, looked for when the first one is needed.
pub struct Identities<'a> {
    world: World<'a>,
    found: OnceCell<Result<Found, String>>,
}

/// What was found.
#[derive(Default)]
struct Found {
    open: RefCell<Vec<Box<dyn age::Identity>>>,
    locked: RefCell<Vec<LockedKey>>,
    looked: Vec<String>,
}

/// An SSH key behind a passphrase.
struct LockedKey {
    path: Utf8PathBuf,
    stanza: Stanza,
    key: age::ssh::EncryptedKey,
}

impl<'a> Identities<'a> {
    /// Identities as this world has them.
    pub fn new(world: World<'a>) -> Self {
        Identities { world, found: OnceCell::new() }
    }

    /// Opens an age file.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Locked> {
        let bytes = header::dearmored(sealed).map_err(Locked::Damaged)?;
        let stanzas = header::stanzas(&bytes).map_err(Locked::Damaged)?;
        let found = self.found.get_or_init(|| Found::look(&self.world)).as_ref();
        let found = found.map_err(|why| no_identity(&stanzas, vec![why.clone()]))?;
        if let Some(content) = found.try_open(&bytes)? {
            return Ok(content);
        }
        let mut looked = found.looked.clone();
        // Only keys that the file is for are worth a question.
        let mut locked = found.locked.borrow_mut();
        while let Some(at) = locked.iter().position(|key| stanzas.contains(&key.stanza)) {
            let key = locked.remove(at);
            match key.unlock(self.world.prompt) {
                Ok(identity) => found.open.borrow_mut().push(identity),
                Err(why) => {
                    looked.push(format!("{}: {why}", key.path));
                    continue;
                }
            }
            if let Some(content) = found.try_open(&bytes)? {
                return Ok(content);
            }
        }
        Err(no_identity(&stanzas, looked))
    }
}

fn no_identity(stanzas: &[Stanza], looked: Vec<String>) -> Locked {
    Locked::NoIdentity { needed: stanzas.iter().map(ToString::to_string).collect(), looked }
}

impl Found {
    /// Looks everywhere. An identity that was asked for and is not there is an error.
    fn look(world: &World<'_>) -> Result<Found, String> {
        let mut found = Found::default();
        for path in world.identities {
            found.file(world, path, true)?;
        }
        for name in KEYS {
            match (world.env)(name).map(Zeroizing::new).filter(|text| !text.trim().is_empty()) {
                Some(text) => found.keys(&text, name)?,
                None => found.looked.push(format!("{name} is not set")),
            }
        }
        if let Some(path) = (world.env)(KEY_FILE).filter(|path| !path.is_empty()) {
            found.file(world, Utf8Path::new(&path), true)?;
        }
        let usual = [world.own_identity(), world.config().join("sops/age/keys.txt")];
        let ssh = ["id_ed25519", "id_rsa"].map(|name| world.home().join(".ssh").join(name));
        for path in usual.iter().chain(&ssh) {
            found.file(world, path, false)?;
        }
        Ok(found)
    }

    fn file(&mut self, world: &World<'_>, path: &Utf8Path, asked_for: bool) -> Result<(), String> {
        let bytes = match (world.read)(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if asked_for => return Err(format!("{path}: {error}")),
            Err(error) => {
                self.looked.push(format!(
                    "{path}: {}",
                    if error.kind() == io::ErrorKind::NotFound { "not there".into() } else { error.to_string() }
                ));
                return Ok(());
            }
        };
        let Ok(text) = std::str::from_utf8(&bytes) else { return self.odd(path, "no text", asked_for) };
        if header::is_age(&bytes) {
            return self.odd(path, "itself encrypted, which is not supported", asked_for);
        }
        if text.contains("PRIVATE KEY-----") {
            return self.ssh_key(text, path, asked_for);
        }
        match self.keys(text, path.as_str()) {
            Err(_) if !asked_for => self.odd(path, "no identity in it", false),
            result => result,
        }
    }

    /// A file that cannot be used: an error if it was asked for.
    fn odd(&mut self, path: &Utf8Path, why: &str, asked_for: bool) -> Result<(), String> {
        let why = format!("{path}: {why}");
        if asked_for {
            return Err(why);
        }
        self.looked.push(why);
        Ok(())
    }

    /// Age keys, one a line. What is wrong with a line is told by its number: the line itself may be secret.
    fn keys(&mut self, text: &str, place: &str) -> Result<(), String> {
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        let mut count = 0;
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with("AGE-PLUGIN-") {
                self.looked.push(format!("{place}: line {number} is for a plugin, which is not supported"));
                continue;
            }
            let key = line.parse::<age::x25519::Identity>();
            let key = key.map_err(|_| format!("{place}: line {number} is no age identity (AGE-SECRET-KEY-1…)"))?;
            self.looked.push(format!("{place}: {}", key.to_public()));
            self.open.get_mut().push(Box::new(key));
            count += 1;
        }
        if count == 0 { Err(format!("{place}: no identity in it")) } else { Ok(()) }
    }

    fn ssh_key(&mut self, text: &str, path: &Utf8Path, asked_for: bool) -> Result<(), String> {
        use age::ssh::Identity;
        let Ok(identity) = Identity::from_buffer(text.as_bytes(), Some(path.to_string())) else {
            return self.odd(path, "no SSH key that can be read", asked_for);
        };
        match identity {
            Identity::Unencrypted(key) => {
                self.looked.push(format!("{path}: an SSH key{}", named(text)));
                self.open.get_mut().push(Box::new(Identity::Unencrypted(key)));
                Ok(())
            }
            Identity::Encrypted(key) => {
                let public = ssh_key::PrivateKey::from_openssh(text).ok();
                let wire = public
                    .and_then(|key| Some((key.algorithm().as_str().to_string(), key.public_key().to_bytes().ok()?)));
                let Some((kind, wire)) = wire else { return self.odd(path, "no SSH key that can be read", asked_for) };
                self.looked.push(format!("{path}: an SSH key behind a passphrase{}", named(text)));
                self.locked.get_mut().push(LockedKey { path: path.to_owned(), stanza: Stanza::ssh(&kind, &wire), key });
                Ok(())
            }
            Identity::Unsupported(_) => self.odd(path, "an SSH key of a kind that age cannot use", asked_for),
        }
    }

    /// The content, or nothing if no identity that is open fits.
    fn try_open(&self, bytes: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Locked> {
        let damaged = |what: &str| Locked::Damaged(format!("is damaged: {what}"));
        let decryptor = Decryptor::new_buffered(bytes).map_err(|_| damaged("its header is not whole"))?;
        let open = self.open.borrow();
        let mut reader = match decryptor.decrypt(open.iter().map(AsRef::as_ref)) {
            Ok(reader) => reader,
            Err(DecryptError::NoMatchingKeys) => return Ok(None),
            Err(_) => return Err(damaged("its header is not what was written")),
        };
        let mut content = Zeroizing::new(Vec::with_capacity(bytes.len()));
        reader.read_to_end(&mut content).map_err(|_| damaged("its content is not what was written"))?;
        Ok(Some(content))
    }
}

/// The type and tag of an SSH key, to be compared with what a file is for.
fn named(text: &str) -> String {
    let key = ssh_key::PrivateKey::from_openssh(text).ok();
    let wire = key.as_ref().and_then(|key| key.public_key().to_bytes().ok());
    match (key, wire) {
        (Some(key), Some(wire)) => match Stanza::ssh(key.algorithm().as_str(), &wire) {
            Stanza::Ssh { kind, tag } => format!(" ({kind}, tag {tag})"),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

impl LockedKey {
    fn unlock(&self, prompt: &dyn Prompt) -> Result<Box<dyn age::Identity>, String> {
        let mut wrong: Option<Secret> = None;
        for _ in 0..PASSPHRASE_TRIES {
            let Some(answer) = prompt.passphrase(&self.path, wrong.as_ref()) else {
                return Err("needs a passphrase, and nobody gave one".into());
            };
            if let Ok(key) = self.key.decrypt(SecretString::from(answer.expose().to_string())) {
                return Ok(Box::new(age::ssh::Identity::Unencrypted(key)));
            }
            wrong = Some(answer);
        }
        Err("wrong passphrase".into())
    }
}

/// A new identity: its recipient, and the text of its file.
pub fn generate() -> (String, Zeroizing<String>) {
    use age::secrecy::ExposeSecret as _;
    let key = age::x25519::Identity::generate();
    let public = key.to_public().to_string();
    let text = format!("# public key: {public}\n{}\n", key.to_string().expose_secret());
    (public, Zeroizing::new(text))
}

/// The recipient of the first age key in the text of an identity file.
pub fn public(text: &str) -> Result<String> {
    let key = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-"));
    let key = key.and_then(|key| key.parse::<age::x25519::Identity>().ok());
    let key = key.ok_or_else(|| Error::new(Kind::Config, "there is no age identity in it"))?;
    Ok(key.to_public().to_string())
}
