//! The names in a template that are more than values: `secret` and `facts`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value};
use minijinja::{Error, ErrorKind};

use crate::base::secret::{MASK, Secret, SecretTree};
use crate::base::template::Scope;

/// What one rendering has touched.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<(AtomicBool, AtomicBool)>);

impl Watch {
    pub(super) fn new(secret: bool) -> Self {
        Watch(Arc::new((AtomicBool::new(secret), AtomicBool::new(false))))
    }

    pub(super) fn secret(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }

    pub(super) fn needs_facts(&self) -> bool {
        self.0.1.load(Ordering::Relaxed)
    }
}

/// `secret`, and every map of secrets below it: handing out a secret marks the rendering.
pub(super) struct Secrets {
    secrets: BTreeMap<String, SecretTree>,
    watch: Watch,
}

impl Secrets {
    pub(super) fn new(scope: &Scope, watch: &Watch) -> Self {
        Secrets { secrets: scope.secrets.clone(), watch: watch.clone() }
    }

    fn value(&self, tree: &SecretTree) -> Value {
        match tree {
            SecretTree::One(secret) => {
                self.watch.0.0.store(true, Ordering::Relaxed);
                plain(secret)
            }
            SecretTree::List(items) => items.iter().map(|item| self.value(item)).collect(),
            SecretTree::Map(map) => Value::from_object(Secrets { secrets: map.clone(), watch: self.watch.clone() }),
        }
    }
}

/// A secret as the library wants it: text, a number or a truth value.
fn plain(secret: &Secret) -> Value {
    match secret.text() {
        Some(text) if secret.is_scalar() => {
            let value = serde_json::from_str::<serde_json::Value>(text).ok();
            value.map_or_else(|| Value::from(text), |value| Value::from(Serde(&value)))
        }
        Some(text) => Value::from(text),
        None => {
            let why = "this secret is not text: only `file … secret=\"NAME\"` can write it";
            Value::from(Error::new(ErrorKind::InvalidOperation, why))
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Object for Secrets {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.secrets.get(key.as_str()?).map(|tree| self.value(tree))
    }

    // Not enumerable: nobody writes out all secrets by accident.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Stands for a fact that is not known yet, and for everything below it.
pub(super) struct Facts(Watch);

impl Facts {
    /// The facts, or what stands for them while they are not known.
    pub(super) fn value(known: Option<&serde_json::Value>, watch: &Watch) -> Value {
        match known {
            Some(facts) => Value::from(Serde(facts)),
            None => Value::from_object(Facts(watch.clone())),
        }
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("facts")
    }
}

impl Object for Facts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        self.0.0.1.store(true, Ordering::Relaxed);
        Some(Value::from_dyn_object(self.clone()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.0.1.store(true, Ordering::Relaxed);
        Enumerator::Empty
    }

    fn render(self: &Arc<Self>, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.1.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A context as names and values.
pub(super) fn flatten(context: &Value) -> BTreeMap<String, Value> {
    let Ok(keys) = context.try_iter() else { return BTreeMap::new() };
    keys.filter_map(|key| Some((key.as_str()?.to_string(), context.get_item(&key).ok()?))).collect()
}
