//! Secrets are a type: they cannot be printed, logged or serialised by accident.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// What stands in every output in place of a secret.
pub const MASK: &str = "‹secret›";

/// A secret value. Its memory is wiped when the last copy goes.
#[derive(Clone)]
pub struct Secret {
    bytes: Arc<Zeroizing<Vec<u8>>>,
    form: Form,
}

/// What a secret was before it became one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// A file, whose last line break editors and `echo` put there: it is no part of the text.
    File,
    /// A number or a truth value, in the spelling of JSON.
    Scalar,
}

impl Secret {
    /// A secret text.
    pub fn new(value: String) -> Self {
        Secret::of(value.into_bytes(), Form::Text)
    }

    /// The content of a secret file.
    pub fn file(content: Vec<u8>) -> Self {
        Secret::of(content, Form::File)
    }

    /// A secret number or truth value, in the spelling of JSON.
    pub fn scalar(value: String) -> Self {
        Secret::of(value.into_bytes(), Form::Scalar)
    }

    fn of(bytes: Vec<u8>, form: Form) -> Self {
        Secret { bytes: Arc::new(Zeroizing::new(bytes)), form }
    }

    /// The value itself, byte for byte. Only for writing it into the place it is meant for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value as text, where it is text: of a file, without its last line break.
    pub fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        Some(match self.form {
            Form::File => text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)),
            Form::Text | Form::Scalar => text,
        })
    }

    /// The text of a secret that a person typed or that is known to be text.
    pub fn expose(&self) -> &str {
        self.text().unwrap_or_default()
    }

    /// Whether it is a number or a truth value.
    pub fn is_scalar(&self) -> bool {
        self.form == Form::Scalar
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A secret, or secrets below names or in a list: what `secret.NAME` stands for.
#[derive(Debug, Clone)]
pub enum SecretTree {
    /// A single value.
    One(Secret),
    /// Values in their order.
    List(Vec<SecretTree>),
    /// Values by name.
    Map(BTreeMap<String, SecretTree>),
}

impl SecretTree {
    /// Every single value.
    pub fn leaves(&self) -> Vec<&Secret> {
        match self {
            SecretTree::One(secret) => vec![secret],
            SecretTree::List(items) => items.iter().flat_map(SecretTree::leaves).collect(),
            SecretTree::Map(map) => map.values().flat_map(SecretTree::leaves).collect(),
        }
    }

    /// What is called `name` below this, in a list by number.
    pub fn get(&self, name: &str) -> Option<&SecretTree> {
        match self {
            SecretTree::One(_) => None,
            SecretTree::List(items) => items.get(name.parse::<usize>().ok()?),
            SecretTree::Map(map) => map.get(name),
        }
    }

    /// The names below this.
    pub fn names(&self) -> Vec<&str> {
        match self {
            SecretTree::Map(map) => map.keys().map(String::as_str).collect(),
            SecretTree::One(_) | SecretTree::List(_) => Vec::new(),
        }
    }

    /// Lays `over` over this: maps are merged name by name, everything else is replaced.
    pub fn lay_over(&mut self, over: SecretTree) {
        match (self, over) {
            (SecretTree::Map(below), SecretTree::Map(above)) => lay_over(below, above),
            (this, over) => *this = over,
        }
    }
}

/// Lays secrets by name over others.
pub fn lay_over(below: &mut BTreeMap<String, SecretTree>, above: BTreeMap<String, SecretTree>) {
    for (name, tree) in above {
        match below.get_mut(&name) {
            Some(there) => there.lay_over(tree),
            None => _ = below.insert(name, tree),
        }
    }
}

impl From<Secret> for SecretTree {
    fn from(secret: Secret) -> Self {
        SecretTree::One(secret)
    }
}
