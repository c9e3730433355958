//! What a kind is given to turn its spec into a resource for one host.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Problems, Source, Span, did_you_mean};
use crate::base::id::{HostName, Kind, RepoId, ResourceId, StackName};
use crate::base::template::{Rendered, Scope, Templates};
use crate::resource::pool::Peer;
use crate::resource::registry::Registry;
use crate::resource::state::Content;

/// Turns the specs of one stack into resources for one host. Problems are collected, not returned: a method that
/// gives `None` has reported why.
pub struct Lowering<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The stack.
    pub stack: &'a StackName,
    /// The repository's id.
    pub repo: &'a RepoId,
    /// The stack's folder in the repository, such as `stacks/web`.
    pub folder: &'a Utf8Path,
    /// All files of the repository.
    pub files: &'a BTreeMap<Utf8PathBuf, Arc<[u8]>>,
    /// Built-in templates and those of the repository.
    pub templates: &'a Templates,
    /// What names mean in templates here: variables, values, facts, secrets.
    pub scope: &'a Scope,
    /// Where resources of this host listen, from a first pass over [`Spec::endpoints`](super::spec::Spec::endpoints):
    /// what `to="unit:go-api"` stands for. Empty during that pass itself.
    pub ports: &'a BTreeMap<ResourceId, (String, u16)>,
    /// What nginx calls those that have two places (`rollout "blue-green"`), from the same pass.
    pub upstreams: &'a BTreeMap<ResourceId, String>,
    /// All hosts of the repository.
    pub peers: &'a [Peer],
    /// Kinds of which something could not be read in that pass: what listens as one of them is not known.
    pub unread: &'a BTreeSet<Kind>,
    /// The registries that are described, those of the stack last.
    pub registries: &'a [Registry],
    /// Set when a text asked for facts that are not known yet. What was lowered is then not to be used.
    pub needs_facts: Cell<bool>,
    /// Where problems go.
    pub problems: &'a RefCell<Problems>,
}

impl Lowering<'_> {
    /// Where a resource of this host can be reached from the host itself.
    pub fn endpoint(&self, id: &ResourceId) -> Option<(String, u16)> {
        self.ports.get(id).cloned()
    }

    /// The comment that begins every file made from a built-in template.
    pub fn banner(&self) -> String {
        format!("Managed by reconcile: stack {}. Changes made here are undone.", self.stack)
    }

    /// Reports a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A string of the stack with its template parts filled in, for a place where no secret may stand: a name, a path, a
    /// number.
    pub fn text(&self, text: &Text) -> Option<String> {
        let rendered = self.rendered(text)?;
        if rendered.secret {
            let problem = Problem::error("a secret cannot stand here").at(&text.span, "this has a secret in it");
            self.report(problem.hint("secrets can stand in file contents and in environment variables"));
            return None;
        }
        Some(rendered.text)
    }

    /// The same for a place where a secret may stand, with whether one does.
    pub fn rendered(&self, text: &Text) -> Option<Rendered> {
        self.usable(self.templates.render_text(text, self.scope))
    }

    /// A string of the stack that must be one of a few words, or anything else that `parse` understands.
    pub fn parsed<T>(&self, text: &Text, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.text(text)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.report(Problem::error(format!("`{}` is not {what}", value.escape_debug())).at(&text.span, "here"));
        }
        parsed
    }

    /// The template called `name` with `context` as its own names (besides those of the scope), used by the node at
    /// `origin`. `secret` says whether the context has a secret in it.
    #[expect(clippy::needless_pass_by_value, reason = "a context is made for one rendering")]
    pub fn template(&self, name: &str, context: minijinja::Value, secret: bool, origin: &Span) -> Option<Content> {
        self.usable(self.templates.render_with(name, &context, secret, self.scope, origin)).map(content)
    }

    /// A template of the repository: a file of the stack's folder or, failing that, one of `templates/`.
    pub fn own_template(&self, name: &Text) -> Option<Content> {
        let relative = self.text(name)?;
        let path = join_within(self.folder, &relative).filter(|path| self.files.contains_key(path));
        let context = minijinja::context! { managed => self.banner() };
        let Some(path) = path else {
            return self.template(&relative, context, false, &name.span);
        };
        let source = self.source(&path, &name.span)?;
        self.usable(self.templates.render_source(&source, &context, self.scope, &name.span)).map(content)
    }

    /// A file of the repository as text.
    pub fn source(&self, path: &Utf8Path, used: &Span) -> Option<Arc<Source>> {
        let bytes = self.files.get(path)?;
        let Ok(text) = std::str::from_utf8(bytes) else {
            self.report(Problem::error(format!("`{path}` is not UTF-8 text")).at(used, "used here"));
            return None;
        };
        Some(Source::new(path, text))
    }

    fn usable(&self, rendered: Result<Rendered, Box<Problem>>) -> Option<Rendered> {
        match rendered {
            Ok(rendered) if rendered.needs_facts => {
                self.needs_facts.set(true);
                None
            }
            Ok(rendered) => Some(rendered),
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    /// A file of the repository, named relative to the stack's folder, as it is.
    pub fn asset(&self, name: &Text) -> Option<(Utf8PathBuf, Arc<[u8]>)> {
        let relative = self.text(name)?;
        let Some(path) = join_within(self.folder, &relative) else {
            let problem = Problem::error(format!("`{relative}` leads out of the repository"));
            self.report(problem.at(&name.span, "here").hint("name a file of the repository, relative to the stack"));
            return None;
        };
        if let Some(bytes) = self.files.get(&path) {
            return Some((path, bytes.clone()));
        }
        let near = did_you_mean(path.as_str(), self.files.keys().map(|path| path.as_str()));
        let problem = Problem::error(format!("the repository has no file `{path}`")).at(&name.span, "named here");
        self.report(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("paths are relative to the stack's folder"),
        });
        None
    }
}

/// A rendering as the content of a file.
pub fn content(rendered: Rendered) -> Content {
    let bytes = rendered.text.into_bytes();
    if rendered.secret { Content::secret(bytes) } else { Content::plain(bytes) }
}

/// `relative` below `base` with `.` and `..` worked out, unless it leads above the top.
pub fn join_within(base: &Utf8Path, relative: &str) -> Option<Utf8PathBuf> {
    let mut parts: Vec<&str> = base.components().map(|part| part.as_str()).collect();
    if relative.starts_with('/') {
        return None;
    }
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/").into())
}
