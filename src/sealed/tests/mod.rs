//! What others wrote is read (`sops` 3.11.0, `age` 1.1.1, ssh-keygen), and what is written here comes back.

mod age;
mod named;
mod sops;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::Utf8Path;

use super::identity::{Identities, World};
use crate::base::secret::Secret;
use crate::host::transport::Prompt;

/// Somebody who knows one passphrase, and counts how often they are asked.
struct Person(&'static str, AtomicU32);

impl Prompt for Person {
    fn passphrase(&self, _key: &Utf8Path, _wrong: Option<&Secret>) -> Option<Secret> {
        self.1.fetch_add(1, Ordering::SeqCst);
        (!self.0.is_empty()).then(|| Secret::new(self.0.into()))
    }
}

/// Does something in a world with these variables and files, and somebody who knows the passphrase. Gives how often they
/// were asked, too.
fn with<T>(
    env: &[(&str, &str)],
    files: &[(&str, &str)],
    passphrase: &'static str,
    work: impl FnOnce(&Identities<'_>) -> T,
) -> (T, u32) {
    let env: BTreeMap<&str, &str> = env.iter().copied().chain([("HOME", "/home/ann")]).collect();
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let env = |name: &str| env.get(name).map(ToString::to_string);
    let read = |path: &Utf8Path| match files.get(path.as_str()) {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    let person = Person(passphrase, AtomicU32::new(0));
    let world = World { env: &env, read: &read, prompt: &person, identities: &[] };
    let result = work(&Identities::new(world));
    (result, person.1.into_inner())
}

const IDENTITY: &str = include_str!("keys/identity");
const SSH: &str = include_str!("keys/id_ed25519");
const RSA: &str = include_str!("keys/id_rsa");
const LOCKED: &str = include_str!("keys/id_locked");
const KEYS: &str = "/home/ann/.config/sops/age/keys.txt";
