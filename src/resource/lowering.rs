//! What a kind is given to turn its spec into a resource for one host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Problems, Span, did_you_mean};
use crate::base::id::{HostName, StackName};
use crate::base::template::{Rendered, Scope, Templates};
use crate::resource::state::Content;

/// Turns the specs of one stack into resources for one host. Problems are collected, not returned: a method that
/// gives `None` has reported why.
pub struct Lowering<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The stack.
    pub stack: &'a StackName,
    /// The stack's folder in the repository, such as `stacks/web`.
    pub folder: &'a Utf8Path,
    /// All files of the repository.
    pub files: &'a BTreeMap<Utf8PathBuf, Arc<[u8]>>,
    /// Built-in templates and those of the repository.
    pub templates: &'a Templates,
    /// What names mean in templates here: variables, values, facts, secrets.
    pub scope: &'a Scope,
    /// Where problems go.
    pub problems: &'a RefCell<Problems>,
}

impl Lowering<'_> {
    /// Reports a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A string of the stack with its template parts filled in.
    pub fn text(&self, text: &Text) -> Option<String> {
        self.rendered(text).map(|rendered| rendered.text)
    }

    /// The same, with whether a secret went into it.
    pub fn rendered(&self, text: &Text) -> Option<Rendered> {
        self.templates.render_text(text, self.scope).map_err(|problem| self.report(*problem)).ok()
    }

    /// A string of the stack that must be one of a few words, or anything else that `parse` understands.
    pub fn parsed<T>(&self, text: &Text, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.text(text)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.report(Problem::error(format!("`{value}` is not {what}")).at(&text.span, "here"));
        }
        parsed
    }

    /// The template called `name` with `context` as its own names (besides those of the scope), used by the node at
    /// `origin`.
    pub fn template(&self, name: &str, context: minijinja::Value, origin: &Span) -> Option<Content> {
        let rendered =
            self.templates.render(name, context, self.scope, origin).map_err(|problem| self.report(*problem)).ok()?;
        let bytes = rendered.text.into_bytes();
        Some(if rendered.secret { Content::secret(bytes) } else { Content::plain(bytes) })
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
