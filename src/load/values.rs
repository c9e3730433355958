//! Values: YAML files next to a stack, taken as they are. What SOPS has encrypted in them becomes secrets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Problems, Source, Span};
use crate::base::secret::{self, SecretTree};
use crate::load::reading::{Reading, shown, with_known};
use crate::load::sealed;
use crate::load::vars::{Vars, unusable};
use crate::resource::lowering::join_within;

/// What files of values say: values in clear, and secrets.
#[derive(Default)]
pub(super) struct Values {
    pub(super) vars: Vars,
    pub(super) secrets: BTreeMap<String, SecretTree>,
}

impl Values {
    pub(super) fn lay_over(&mut self, over: Values) {
        self.vars.lay_over(&over.vars);
        secret::lay_over(&mut self.secrets, over.secrets);
    }
}

/// The names of the YAML file that a stack in `folder` calls `name`.
pub(super) fn read(reading: &Reading<'_>, folder: &camino::Utf8Path, name: &Text) -> Option<Values> {
    let Some(path) = join_within(folder, &name.raw) else {
        let problem = Problem::error(format!("{} leads out of the repository", shown(&name.raw)));
        reading.report(problem.at(&name.span, "here").hint("name a file of the repository, relative to the stack"));
        return None;
    };
    if !reading.files.contains_key(&path) {
        let problem = Problem::error(format!("the repository has no file {}", shown(path.as_str())));
        let yaml = reading.files.keys().map(|path| path.as_str()).filter(|path| is_yaml(path));
        let near = yaml.filter(|path| path.starts_with(folder.as_str()));
        let problem = problem.at(&name.span, "named here");
        reading.report(with_known(problem, path.as_str(), "YAML files of this stack", near));
        return None;
    }
    let source = reading.text(&path)?;
    if sealed::refuse_as_values(reading, &path, name) {
        return None;
    }
    let values = parse(&source, &reading.problems)?;
    match sealed::sops(reading, &path, &values, &name.span) {
        sealed::Sops::No => {}
        sealed::Sops::Failed => return None,
        sealed::Sops::Opened(opened) => {
            return Some(Values { vars: opened.plain.into(), secrets: opened.secrets });
        }
    }
    Some(Values { vars: values.into(), ..Values::default() })
}

fn is_yaml(path: &str) -> bool {
    let extension = camino::Utf8Path::new(path).extension();
    matches!(extension, Some("yaml" | "yml"))
}

/// The top-level names of a YAML file. An empty file has none.
pub(super) fn parse(source: &Arc<Source>, problems: &RefCell<Problems>) -> Option<Map<String, Value>> {
    let report = |problem: Problem| problems.borrow_mut().push(problem);
    if source.text.trim().is_empty() {
        return Some(Map::new());
    }
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    let value = match serde_yaml::from_str_with_options::<Value>(&source.text, options) {
        Ok(value) => value,
        Err(error) => {
            report(problem(&error, source));
            return None;
        }
    };
    warn_of_numbers(source, problems);
    let start = Span::new(source, 0, 0);
    let map = match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        _ => {
            let problem = Problem::error("values are names with something below them, not a list or a single value");
            report(problem.at(&start, "").hint("write `name: value`"));
            return None;
        }
    };
    map.keys().for_each(|name| check_name(name, source, problems));
    Some(map)
}

/// Reports a name that values cannot have.
fn check_name(name: &str, source: &Arc<Source>, problems: &RefCell<Problems>) {
    if let Some((why, hint)) = unusable(name) {
        let problem = Problem::error(format!("a value cannot be called {}: {why}", shown(name)));
        problems.borrow_mut().push(problem.at(&key_place(source, name), "here").hint(hint));
    }
}

/// What the YAML reader says, as a problem at its place.
fn problem(error: &serde_yaml::Error, source: &Arc<Source>) -> Problem {
    let place = error.location().map(|location| {
        let span = location.span();
        let bytes = span.byte_offset().and_then(|offset| usize::try_from(offset).ok());
        let offset = bytes.unwrap_or_else(|| {
            let (line, column) = (number(location.line()), number(location.column()));
            offset_of(&source.text, line, column)
        });
        let len = span.byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(1);
        Span::new(source, offset.min(source.text.len()), len.min(200))
    });
    let place = place.unwrap_or_else(|| Span::new(source, 0, 0));
    let (message, hint) = message(error);
    let problem = Problem::error(message).at(&place, "here");
    if hint.is_empty() { problem } else { problem.hint(hint) }
}

fn number<N: TryInto<usize>>(number: N) -> usize {
    number.try_into().unwrap_or(1)
}

/// What is wrong, without the place, which is said elsewhere, and what to do about it.
fn message(error: &serde_yaml::Error) -> (String, &'static str) {
    match error.without_snippet() {
        serde_yaml::Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().map(shown).unwrap_or_default();
            (format!("the name {name} is there twice"), "remove one of the two")
        }
        serde_yaml::Error::MultipleDocuments { .. } => {
            ("a values file is one document".into(), "remove the `---`, or make it two files")
        }
        serde_yaml::Error::Budget { .. } => {
            ("this file is too large once its aliases are written out".into(), "use fewer aliases")
        }
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or("this cannot be read");
            let first = first.split(" at line ").next().unwrap_or(first);
            (format!("not valid YAML: {}", first.trim_end_matches(['.', ':'])), "")
        }
    }
}

/// Warns of numbers that are read as something else than what they look like: `0755` is 755, and `1.10` is 1.1.
fn warn_of_numbers(source: &Arc<Source>, problems: &RefCell<Problems>) {
    let mut offset = 0;
    for line in source.text.split_inclusive('\n') {
        let bare = line.split(" #").next().unwrap_or(line).trim_end();
        let value = bare.rsplit([' ', '\t']).next().unwrap_or(bare);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let padded = value.len() > 1 && value.starts_with('0') && digits(value);
        let version =
            value.split_once('.').is_some_and(|(a, b)| digits(a) && digits(b) && b.len() > 1 && b.ends_with('0'));
        let before = bare.strip_suffix(value).unwrap_or_default().trim_end();
        if (padded || version) && (before.ends_with(':') || before.ends_with('-')) {
            let at = Span::new(source, offset + bare.len() - value.len(), value.len());
            let read = value.parse::<f64>().map(|number| number.to_string()).unwrap_or_default();
            let problem = Problem::warning(format!("`{value}` is read as the number {read}")).at(&at, "here");
            problems.borrow_mut().push(problem.hint(format!("write `\"{value}\"` to keep it as it is")));
        }
        offset += line.len();
    }
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let line = text.get(before..).unwrap_or_default();
    before + line.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>()
}

/// Where a top-level name stands.
fn key_place(source: &Arc<Source>, name: &str) -> Span {
    let mut offset = 0;
    for line in source.text.split_inclusive('\n') {
        let bare = line.trim_start_matches(['"', '\'']);
        if bare.strip_prefix(name).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':')) {
            return Span::new(source, offset + line.len() - bare.len(), name.len());
        }
        offset += line.len();
    }
    Span::new(source, 0, 0)
}
