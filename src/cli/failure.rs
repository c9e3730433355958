//! Errors, as text and as JSON.

use serde_json::{Value, json};

use crate::base::diagnostic::{Problem, Problems};
use crate::base::error::{Error, Kind};
use crate::cli::page::{PLAIN, Page, REMOVE};

/// An error as text: what happened, what lay beneath, and what to do next. Its problems are shown elsewhere.
pub fn error_text(error: &Error) -> Page {
    let mut page = Page::new();
    page.put(REMOVE, "error: ").put(PLAIN, &error.to_string()).end();
    if let Some(hint) = &error.hint {
        page.hint(0, hint);
    }
    page
}

/// A fatal error as JSON.
pub fn error_json(error: &Error) -> Value {
    json!({ "version": 1, "error": error_value(error) })
}

/// An error as a part of other JSON.
pub fn error_value(error: &Error) -> Value {
    json!({
        "kind": error.kind,
        "what": error.to_string(),
        "hint": error.hint,
        "problems": problems_value(&error.problems),
    })
}

/// Problems as a part of other JSON.
pub fn problems_value(problems: &Problems) -> Vec<Value> {
    problems.0.iter().map(problem_value).collect()
}

fn problem_value(problem: &Problem) -> Value {
    let (mut file, mut line, mut column) = (Value::Null, Value::Null, Value::Null);
    if let Some((span, _)) = problem.places.first() {
        let (at_line, at_column) = span.line_column();
        (file, line, column) = (json!(span.path()), json!(at_line), json!(at_column));
    }
    json!({
        "severity": problem.severity,
        "message": problem.message,
        "file": file,
        "line": line,
        "column": column,
        "hint": problem.hint,
    })
}

/// The exit code of an error that ended the program.
pub fn exit_code(error: &Error) -> u8 {
    if error.kind == Kind::Interrupted { 130 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn an_error_with_problems_as_json() {
        let mut problems = Problems::default();
        problems.push(Problem::error("unknown node").at(&fixtures::span(), "").hint("did you mean `unit`?"));
        problems.push(Problem::warning("nothing uses this"));
        insta::assert_json_snapshot!(error_json(&Error::problems(problems)));
    }

    #[test]
    fn an_error_as_text() {
        let error = Error::new(Kind::Usage, "no such\u{1b}[1m host").hint("hosts: web-1");
        assert_eq!(error_text(&error).plain(), "error: no such␛[1m host\nhint: hosts: web-1\n");
    }

    #[test]
    fn a_hint_of_several_lines() {
        let error = Error::new(Kind::HostKey, "not known").hint("pin it:\n  host-key \"a\u{1b}\"\nor not");
        let text = "error: not known\nhint: pin it:\n        host-key \"a␛\"\n      or not\n";
        assert_eq!(error_text(&error).plain(), text);
    }
}
