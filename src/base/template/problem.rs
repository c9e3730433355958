//! What went wrong in a template, as a problem with its place. A value never appears in it where a secret could be one.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Error, ErrorKind};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Source, Span, did_you_mean};
use crate::base::secret::{MASK, Secret, SecretTree};
use crate::base::template::Scope;
use crate::base::template::limit::TooLarge;

/// A failed rendering and what is needed to explain it.
pub(super) struct Found<'a> {
    pub(super) error: &'a Error,
    pub(super) source: &'a Arc<Source>,
    pub(super) sources: &'a BTreeMap<String, Arc<Source>>,
    pub(super) known: &'a [String],
    pub(super) scope: &'a Scope,
    pub(super) secret: bool,
    pub(super) too_large: Option<TooLarge>,
}

impl Found<'_> {
    /// The problem, at its place in the template.
    pub(super) fn problem(&self) -> Problem {
        let error = innermost(self.error);
        let source = error
            .name()
            .filter(|name| *name != self.source.path.as_str())
            .and_then(|name| self.sources.get(name))
            .unwrap_or(self.source);
        let span = place(error, source);
        let expression = named(error).unwrap_or(&source.text[span.offset..span.offset + span.len]);
        let (message, hint) = match (self.too_large, error.kind()) {
            (Some(too_large), _) => {
                let (message, hint) = too_large.words();
                (message, Some(hint))
            }
            (None, ErrorKind::UndefinedError) => self.undefined(expression),
            (None, kind) => (self.message(error, kind), None),
        };
        let mut problem = Problem::error(message).at(&span, "in this template");
        problem.hint = hint;
        problem
    }

    /// The library's own words, unless they could repeat a secret.
    fn message(&self, error: &Error, kind: ErrorKind) -> String {
        let about = match kind {
            ErrorKind::OutOfFuel => {
                return "the template does not come to an end: it is stopped after too many steps".into();
            }
            ErrorKind::SyntaxError => "this is not a valid template",
            _ => "the template cannot be rendered",
        };
        match error.detail().filter(|_| !self.secret) {
            Some(detail) => format!("{about}: {}", self.masked(detail)),
            None => format!("{about}: {kind}"),
        }
    }

    fn masked(&self, text: &str) -> String {
        let leaves = self.scope.secrets.values().flat_map(SecretTree::leaves);
        let values = leaves.filter_map(Secret::text);
        values.filter(|value| !value.is_empty()).fold(text.to_string(), |text, value| text.replace(value, MASK))
    }

    /// Which name of an expression is undefined, and the known one it resembles.
    fn undefined(&self, expression: &str) -> (String, Option<String>) {
        let path = expression.trim_start_matches(['{', '-', ' ']).trim();
        let path: String = path.chars().take_while(|c| c.is_alphanumeric() || "_.".contains(*c)).collect();
        let mut parts = path.split('.');
        let Some(root) = parts.next().filter(|root| !root.is_empty()) else {
            return ("a value in this template is not defined".into(), None);
        };
        if !self.known.iter().any(|name| name == root) {
            if self.is_secret(&path) {
                return (format!("`{path}` is not defined"), Some(format!("it is a secret: write `secret.{path}`")));
            }
            let hint = suggestion(root, self.known.iter().map(String::as_str));
            return (format!("`{root}` is not defined"), hint);
        }
        let next = parts.next().unwrap_or_default();
        if root == "secret" {
            return self.no_secret(next, parts);
        }
        let here = if root == "facts" { self.scope.facts.as_ref() } else { self.scope.names.get(root) };
        let (missing, within) = descend(here, next, parts);
        if self.is_secret(&path) {
            return (format!("`{path}` is not defined"), Some(format!("it is a secret: write `secret.{path}`")));
        }
        let hint = suggestion(&missing, within.iter().map(String::as_str));
        (format!("`{path}` is not defined"), hint)
    }

    /// Whether `secret.PATH` is a secret, or a name above some.
    fn is_secret(&self, path: &str) -> bool {
        let mut parts = path.split('.');
        let first = parts.next().and_then(|name| self.scope.secrets.get(name));
        parts.try_fold(first, |tree, name| tree.map(|tree| tree.get(name))).flatten().is_some()
    }

    /// Which part of `secret.FIRST.REST` there is not, and what is known in its place.
    fn no_secret<'p>(&self, first: &'p str, rest: impl Iterator<Item = &'p str>) -> (String, Option<String>) {
        let Some(mut here) = self.scope.secrets.get(first) else {
            let known = self.scope.secrets.keys().map(String::as_str);
            let none =
                "a stack has those that it names: `secrets \"secrets.yaml\"` or `secret \"NAME\" env=\"VARIABLE\"`";
            let hint = suggestion(first, known).or_else(|| self.scope.secrets.is_empty().then(|| none.into()));
            return (format!("there is no secret called `{first}`"), hint);
        };
        let mut path = first.to_string();
        for part in rest {
            path = format!("{path}.{part}");
            let Some(below) = here.get(part) else {
                let hint = suggestion(part, here.names().into_iter());
                return (format!("there is no secret called `{path}`"), hint);
            };
            here = below;
        }
        (format!("`secret.{path}` is not defined"), None)
    }
}

/// The expression that the library names as undefined. These are names as written, never values.
fn named(error: &Error) -> Option<&str> {
    let detail = error.detail()?;
    let end = detail.find("` is undefined")?;
    let begin = detail[..end].rfind('`')?;
    Some(&detail[begin + 1..end])
}

/// Follows a path of names into a value: the first name that is not there, and those that are.
fn descend<'a>(
    from: Option<&serde_json::Value>,
    first: &'a str,
    rest: impl Iterator<Item = &'a str>,
) -> (String, Vec<String>) {
    let mut here = from;
    for part in std::iter::once(first).chain(rest) {
        let object = here.and_then(serde_json::Value::as_object);
        let Some(value) = object.and_then(|object| object.get(part)) else {
            let names = object.map(|object| object.keys().cloned().collect()).unwrap_or_default();
            return (part.to_string(), names);
        };
        here = Some(value);
    }
    (String::new(), Vec::new())
}

fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.collect();
    match did_you_mean(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None if known.len() <= 12 => Some(format!("known here: {}", known.join(", "))),
        None => None,
    }
}

/// A syntax error of a template.
pub(super) fn syntax(error: &Error, source: &Arc<Source>) -> Problem {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    Problem::error(format!("this is not a valid template: {detail}")).at(&place(error, source), "here")
}

/// A problem found in a string of a stack, moved to where that string stands in its file.
pub(super) fn in_text(mut problem: Problem, text: &Text) -> Problem {
    let whole = &text.span;
    let written = whole.source.text.get(whole.offset..whole.offset + whole.len).unwrap_or_default();
    // With escapes or several lines the string in the file is not the string that was rendered.
    let begin = written.rfind(&text.raw);
    for (place, label) in &mut problem.places {
        if place.source.path != whole.source.path {
            continue;
        }
        *place = match begin {
            Some(begin) => Span::new(&whole.source, whole.offset + begin + place.offset, place.len),
            None => whole.clone(),
        };
        *label = "here".into();
    }
    problem
}

/// The error that caused the others: the one in the included template, not the `include`.
fn innermost(error: &Error) -> &Error {
    let mut error = error;
    while let Some(cause) = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>()) {
        error = cause;
    }
    error
}

fn place(error: &Error, source: &Arc<Source>) -> Span {
    let text = &source.text;
    let range = error.range().filter(|range| range.start <= range.end && text.get(range.clone()).is_some());
    if let Some(range) = range {
        return Span::new(source, range.start, range.len());
    }
    let line = error.line().unwrap_or(1).max(1);
    let offset: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let len = text[offset..].lines().next().map_or(0, str::len);
    Span::new(source, offset, len)
}
