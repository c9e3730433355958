//! Files of SOPS with age recipients: values in clear stay values, encrypted ones become secrets.
//!
//! What the format is: every value is encrypted by itself with AES-256-GCM under the file's data key, with the names above
//! it as additional data. The data key is an age file for each recipient. A digest over all values, in the order
//! of the file, is encrypted likewise, with the time of the last change as additional data: so no value can be taken
//! away, moved or put back to an older one. Which values are encrypted is seen by their form; the rules by which SOPS
//! chose them tell when one stands in clear that should not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256, Sha512};

use crate::base::secret::{Secret, SecretTree};
use crate::sealed::sops_rules::Rules;
use crate::sealed::sops_value::{DataKey, Sealed};
use crate::sealed::{Identities, Locked};

/// The name below which SOPS keeps its own.
pub const METADATA: &str = "sops";

/// A file of SOPS, taken apart: the values in clear, and the secrets.
pub struct Opened {
    /// Values in clear.
    pub plain: Map<String, Value>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretTree>,
}

/// A file of SOPS as it was read: its values, and what SOPS says about them.
pub struct File {
    values: Map<String, Value>,
    metadata: Map<String, Value>,
    /// In JSON every number is a fraction to SOPS.
    json: bool,
}

impl File {
    /// The file with these values, if it is one of SOPS. `json` says how it was written.
    pub fn new(values: &Map<String, Value>, json: bool) -> Option<File> {
        let metadata = values.get(METADATA)?.as_object()?;
        if !metadata.contains_key("mac") && !metadata.contains_key("version") {
            return None;
        }
        let mut values = values.clone();
        let metadata = metadata.clone();
        values.shift_remove(METADATA);
        Some(File { values, metadata, json })
    }

    /// The recipients, as the file names them.
    pub fn recipients(&self) -> Vec<&str> {
        self.keys().filter_map(|(recipient, _)| recipient).collect()
    }

    /// The file with a placeholder for every secret, or what is wrong with its form.
    pub fn with_placeholders(&self) -> Result<Opened, String> {
        self.check()?;
        let rules = Rules::of(&self.metadata)?;
        let mut walk = Walk { path: Vec::new(), json: self.json, digest: None, only_sealed: false, key: None, rules };
        walk.whole(&self.values)
    }

    /// The file with its secrets, if an identity fits and the file is whole.
    pub fn open(&self, identities: &Identities<'_>) -> Result<Opened, Locked> {
        self.check().map_err(Locked::Damaged)?;
        let key = self.data_key(identities)?;
        let only_sealed = self.truth("mac_only_encrypted");
        let mut digest = Sha512::new();
        if only_sealed {
            // So that the two kinds of digest are never the same.
            digest.update(Sha256::digest(METADATA));
        }
        let rules = Rules::of(&self.metadata).map_err(Locked::Damaged)?;
        let digest = Some(digest);
        let mut walk = Walk { path: Vec::new(), json: self.json, digest, only_sealed, key: Some(&key), rules };
        let opened = walk.whole(&self.values).map_err(Locked::Damaged)?;
        let digest = walk.digest.map(|digest| digest.finalize().to_vec()).unwrap_or_default();
        let digest: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let written = Sealed::parse(self.text("mac")).and_then(|mac| mac.open(&key, self.text("lastmodified")));
        match written {
            Some(written) if written.as_slice() == digest.as_bytes() => Ok(opened),
            Some(_) => Err(Locked::Damaged(
                "was changed by something other than SOPS: its values do not fit its checksum. (A date or a number in \
                 clear that YAML can be read in two ways, such as 0755, has the same effect: put it in quotes)"
                    .into(),
            )),
            None => Err(Locked::Damaged("is damaged: its checksum (`sops.mac`) cannot be read".into())),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.metadata.get("key_groups").and_then(Value::as_array).is_some_and(|groups| groups.len() > 1) {
            return Err("needs keys of several groups together (Shamir's sharing), which is not supported".into());
        }
        if self.keys().next().is_none() {
            return Err("is not encrypted for any age recipient: other keys of SOPS are not supported".into());
        }
        if Sealed::parse(self.text("mac")).is_none() {
            return Err("is damaged: it has no checksum (`sops.mac`)".into());
        }
        Ok(())
    }

    /// The recipients with the data key as it is encrypted for each.
    fn keys(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let groups = self.metadata.get("key_groups").and_then(Value::as_array).into_iter().flatten();
        let lists = std::iter::once(self.metadata.get("age")).chain(groups.map(|group| group.get("age")));
        let entries = lists.flatten().filter_map(Value::as_array).flatten();
        entries.filter_map(|entry| Some((entry.get("recipient").and_then(Value::as_str), entry.get("enc")?.as_str()?)))
    }

    fn data_key(&self, identities: &Identities<'_>) -> Result<DataKey, Locked> {
        let mut last = None;
        for (_, sealed) in self.keys() {
            match identities.open(sealed.as_bytes()) {
                Ok(key) => {
                    let key = DataKey::new(&key);
                    return key.ok_or_else(|| Locked::Damaged("is damaged: its data key is no key".into()));
                }
                Err(locked @ Locked::Damaged(_)) => return Err(locked),
                Err(Locked::NoIdentity { looked, .. }) => last = Some(looked),
            }
        }
        let needed = self.recipients().into_iter().map(String::from).collect();
        Err(Locked::NoIdentity { needed, looked: last.unwrap_or_default() })
    }

    fn text(&self, name: &str) -> &str {
        self.metadata.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn truth(&self, name: &str) -> bool {
        let value = self.metadata.get(name);
        value.is_some_and(|value| value == &Value::Bool(true) || value.as_str() == Some("true"))
    }
}

/// A way through all values of a file.
struct Walk<'a> {
    /// The names above the value at hand. Lists have no part in it.
    path: Vec<String>,
    json: bool,
    digest: Option<Sha512>,
    /// Whether the digest is over encrypted values only.
    only_sealed: bool,
    /// Without a key, secrets are placeholders.
    key: Option<&'a DataKey>,
    rules: Rules,
}

/// Names in clear, and names that are secret.
type Split = (Map<String, Value>, BTreeMap<String, SecretTree>);

/// What became of one value.
enum Part {
    Plain(Value),
    Secret(SecretTree),
    /// Names, some in clear and some secret.
    Both(Map<String, Value>, BTreeMap<String, SecretTree>),
}

impl Walk<'_> {
    fn whole(&mut self, values: &Map<String, Value>) -> Result<Opened, String> {
        let (plain, secrets) = self.map(values)?;
        Ok(Opened { plain, secrets })
    }

    fn map(&mut self, values: &Map<String, Value>) -> Result<Split, String> {
        let (mut plain, mut secrets) = (Map::new(), BTreeMap::new());
        for (name, value) in values {
            self.path.push(name.clone());
            match self.value(value)? {
                Part::Plain(value) => _ = plain.insert(name.clone(), value),
                Part::Secret(tree) => _ = secrets.insert(name.clone(), tree),
                Part::Both(below, hidden) => {
                    plain.insert(name.clone(), Value::Object(below));
                    secrets.insert(name.clone(), SecretTree::Map(hidden));
                }
            }
            self.path.pop();
        }
        Ok((plain, secrets))
    }

    fn value(&mut self, value: &Value) -> Result<Part, String> {
        match value {
            Value::Object(map) => {
                let (plain, secrets) = self.map(map)?;
                Ok(match (plain.is_empty(), secrets.is_empty()) {
                    (_, true) => Part::Plain(Value::Object(plain)),
                    (true, false) => Part::Secret(SecretTree::Map(secrets)),
                    (false, false) => Part::Both(plain, secrets),
                })
            }
            Value::Array(items) => {
                let parts: Vec<Part> = items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?;
                // One secret among them makes the whole list secret: its items are found by their number.
                if parts.iter().all(|part| matches!(part, Part::Plain(_))) {
                    return Ok(Part::Plain(value.clone()));
                }
                Ok(Part::Secret(SecretTree::List(parts.into_iter().map(hidden).collect())))
            }
            Value::String(text) => match Sealed::parse(text) {
                Some(sealed) => self.sealed(&sealed).map(|secret| Part::Secret(secret.into())),
                None if text.starts_with("ENC[") => Err(format!("is damaged: `{}` is not whole", self.place())),
                None => self.plain(value, text),
            },
            Value::Bool(truth) => self.plain(value, if *truth { "True" } else { "False" }),
            Value::Number(number) => {
                let whole = number.as_i64().map(|number| number.to_string());
                let whole = whole.or_else(|| number.as_u64().map(|number| number.to_string()));
                let text = whole.filter(|_| !self.json).or_else(|| number.as_f64().map(|number| number.to_string()));
                self.plain(value, &text.unwrap_or_default())
            }
            Value::Null => Ok(Part::Plain(Value::Null)),
        }
    }

    fn plain(&mut self, value: &Value, text: &str) -> Result<Part, String> {
        if !text.is_empty() && self.rules.are_for(&self.path) {
            return Err(format!("has a value in clear that should be encrypted: `{}`", self.place()));
        }
        if let Some(digest) = self.digest.as_mut().filter(|_| !self.only_sealed) {
            digest.update(text);
        }
        Ok(Part::Plain(value.clone()))
    }

    fn sealed(&mut self, sealed: &Sealed) -> Result<Secret, String> {
        let Some(key) = self.key else { return Ok(sealed.placeholder(&self.path.join("_"))) };
        let place: String = self.path.iter().map(|name| format!("{name}:")).collect();
        let damaged = || format!("is damaged, or the value was moved: `{}` does not fit its key", self.place());
        let bytes = sealed.open(key, &place).ok_or_else(damaged)?;
        if let Some(digest) = &mut self.digest {
            digest.update(bytes.as_slice());
        }
        Ok(sealed.secret(&bytes))
    }

    fn place(&self) -> String {
        self.path.join(".").escape_default().to_string()
    }
}

/// Any part as secrets.
fn hidden(part: Part) -> SecretTree {
    match part {
        Part::Plain(value) => tree(&value),
        Part::Secret(tree) => tree,
        Part::Both(plain, secrets) => {
            let mut all = tree(&Value::Object(plain));
            all.lay_over(SecretTree::Map(secrets));
            all
        }
    }
}

/// Values in clear as secrets: those that stand in a list beside one.
fn tree(value: &Value) -> SecretTree {
    match value {
        Value::Object(map) => SecretTree::Map(map.iter().map(|(name, value)| (name.clone(), tree(value))).collect()),
        Value::Array(items) => SecretTree::List(items.iter().map(tree).collect()),
        Value::String(text) => Secret::new(text.clone()).into(),
        other => Secret::scalar(other.to_string()).into(),
    }
}
