//! Templates: minijinja, strict about undefined names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::secret::Secret;

/// The templates there are: the built-in ones, and those of the repository, which win.
pub struct Templates {}

/// What names mean in a template.
#[derive(Default)]
pub struct Scope {
    /// Variables, values, `host`, `stack`, as an object of names.
    pub names: serde_json::Map<String, serde_json::Value>,
    /// Secrets, as `secret.NAME`.
    pub secrets: BTreeMap<String, Secret>,
    /// Facts about the host, as `facts.NAME`; `None` while they are not known yet.
    pub facts: Option<serde_json::Value>,
}

/// The result of a rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Whether a secret went into it.
    pub secret: bool,
    /// Whether it asked for facts that were not known: then the text is not to be used.
    pub needs_facts: bool,
}

impl Templates {
    /// The built-in templates, with those of the repository (by name, such as `systemd/service.j2`) taking over.
    pub fn new(_repository: BTreeMap<String, Arc<Source>>) -> Result<Self, Vec<Problem>> {
        Ok(Templates {})
    }

    /// Renders a string of a stack.
    pub fn render_text(&self, text: &Text, _scope: &Scope) -> Result<Rendered, Box<Problem>> {
        Ok(Rendered { text: text.raw.clone(), secret: false, needs_facts: false })
    }

    /// Renders the template `name` for the node at `origin`.
    pub fn render(
        &self,
        name: &str,
        _context: minijinja::Value,
        _scope: &Scope,
        origin: &Span,
    ) -> Result<Rendered, Box<Problem>> {
        Err(Box::new(Problem::error(format!("there is no template `{name}`")).at(origin, "used here")))
    }
}
