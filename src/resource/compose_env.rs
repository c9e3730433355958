//! The environment of a Compose project: its `.env`.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Source, Span};
use crate::resource::lowering::Lowering;
use crate::resource::service;
use crate::resource::state::Content;
use crate::resource::value;

/// The environment as a stack describes it.
#[derive(Debug, Clone)]
pub struct Env {
    files: Vec<Text>,
    variables: Vec<(String, Text)>,
}

/// The file that Compose reads by itself from the project directory.
const BESIDE: &str = ".env";

impl Env {
    /// Reads `env` and `env-file`.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        let files = reader.values("env-file");
        let variables = reader.children("env").into_iter().flat_map(service::environment).collect();
        Env { files, variables }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self, on: &Lowering<'_>, base: &Utf8Path) -> bool {
        self.files.is_empty() && self.variables.is_empty() && !on.files.contains_key(&base.join(BESIDE))
    }

    /// The text of `.env`: the one beside the Compose file, the files named, then the variables.
    pub fn lower(&self, on: &Lowering<'_>, base: &Utf8Path, origin: &Span) -> Option<Content> {
        let mut text = format!("# {}\n", on.banner());
        for source in self.sources(on, base, origin)? {
            text += source.text.trim_end();
            text.push('\n');
        }
        let mut secret = false;
        for (name, value) in &self.variables {
            let rendered = value::line(on, value)?;
            secret |= rendered.secret;
            text.extend([name.as_str(), "=", &quoted(&rendered.text), "\n"]);
        }
        Some(if secret { Content::secret(text.into_bytes()) } else { Content::plain(text.into_bytes()) })
    }

    /// The files it is made of.
    fn sources(&self, on: &Lowering<'_>, base: &Utf8Path, origin: &Span) -> Option<Vec<Arc<Source>>> {
        let mut paths: Vec<Utf8PathBuf> =
            self.files.iter().map(|name| on.asset(name).map(|(path, _)| path)).collect::<Option<_>>()?;
        let beside = base.join(BESIDE);
        if on.files.contains_key(&beside) && !paths.contains(&beside) {
            paths.insert(0, beside);
        }
        paths.iter().map(|path| on.source(path, origin)).collect()
    }

    /// What is known of the variables for interpolation: never a secret, and only what is plainly written.
    pub fn variables(&self, on: &Lowering<'_>, base: &Utf8Path, origin: &Span) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        for source in self.sources(on, base, origin).unwrap_or_default() {
            known.extend(plain_lines(&source));
        }
        for (name, text) in &self.variables {
            if let Some(rendered) = on.rendered(text).filter(|rendered| !rendered.secret) {
                known.insert(name.clone(), rendered.text);
            }
        }
        known
    }
}

/// The variables of a file that are plainly written.
pub fn plain_lines(source: &Source) -> BTreeMap<String, String> {
    source.text.lines().filter_map(plain_line).collect()
}

/// `NAME=value` where the value needs no interpretation.
fn plain_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().strip_prefix("export ").unwrap_or(line.trim()).split_once('=')?;
    let value = value.trim();
    let value =
        if value.starts_with(['"', '\'']) { value } else { value.split(" #").next().unwrap_or(value).trim_end() };
    let inner = [('"', '"'), ('\'', '\'')]
        .into_iter()
        .find_map(|(open, close)| value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)))
        .unwrap_or(value);
    let plain = !inner.contains(['$', '\\', '"', '\'', '#']);
    (service::is_variable(name.trim()) && plain).then(|| (name.trim().to_string(), inner.to_string()))
}

/// A value as Compose reads it from `.env`: bare, or in single quotes where nothing is interpreted, or, where it has
/// single quotes itself, in double quotes with everything escaped.
fn quoted(value: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-./:=@,+%".contains(c);
    if value.chars().all(bare) {
        return value.to_string();
    }
    if !value.contains('\'') && !value.ends_with('\\') {
        return format!("'{value}'");
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_are_quoted_for_compose() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("a b", "'a b'"),
            ("pa$$word #1", "'pa$$word #1'"),
            ("it's $5 \"x\" \\", "\"it's $$5 \\\"x\\\" \\\\\""),
            ("tail\\", "\"tail\\\\\""),
        ];
        for (value, expected) in cases {
            assert_eq!(quoted(value), expected);
        }
    }
}
