//! Values: YAML files next to a stack, taken as they are.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Problems, Source, Span};
use crate::load::reading::{Reading, shown, with_known};
use crate::load::vars::{Vars, unusable};
use crate::resource::lowering::join_within;

/// The names of the YAML file that a stack in `folder` calls `name`.
pub(super) fn read(reading: &Reading<'_>, folder: &camino::Utf8Path, name: &Text) -> Option<Vars> {
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
    parse(&reading.text(&path)?, &reading.problems).map(Vars::from)
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
    for name in map.keys() {
        if let Some((why, hint)) = unusable(name) {
            let problem = Problem::error(format!("a value cannot be called {}: {why}", shown(name)));
            report(problem.at(&key_place(source, name), "here").hint(hint));
        }
    }
    Some(map)
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
    let problem = Problem::error(message(error)).at(&place.unwrap_or_else(|| Span::new(source, 0, 0)), "here");
    match error.without_snippet() {
        serde_yaml::Error::DuplicateMappingKey { .. } => problem.hint("remove one of the two"),
        _ => problem,
    }
}

fn number<N: TryInto<usize>>(number: N) -> usize {
    number.try_into().unwrap_or(1)
}

/// The reader's message without the place, which is said elsewhere.
fn message(error: &serde_yaml::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or("this is not YAML");
    let cut = first.split(" at line ").next().unwrap_or(first);
    let cut = cut.strip_prefix("error: ").unwrap_or(cut);
    format!("YAML: {}", cut.trim_end_matches(['.', ':']))
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
