//! Problems of a repository, with the lines they are about and a caret under each place.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity as Weight, SourceCode,
};

use crate::base::diagnostic::{Problem, Problems, Severity, Source};
use crate::cli::page::{count, visible};

/// How problems are to be laid out.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// With colours and lines drawn for a terminal.
    pub graphical: bool,
    /// How many columns there are.
    pub width: usize,
}

/// All problems, and how many there are.
pub fn problems_text(problems: &Problems, form: Form) -> String {
    let theme = if form.graphical { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(form.width).without_cause_chain();
    let mut text = String::new();
    for problem in &problems.0 {
        for shown in in_files(problem) {
            // Only writing itself could fail, and writing to a string does not.
            let _ = handler.render_report(&mut text, &shown);
            text.push('\n');
        }
    }
    text.push_str(&summary(problems));
    text.push('\n');
    text
}

/// `2 errors, 1 warning`.
pub fn summary(problems: &Problems) -> String {
    let errors = problems.errors();
    let warnings = problems.0.len() - errors;
    match (errors, warnings) {
        (0, 0) => "no problems".into(),
        (0, _) => count(warnings, "warning"),
        (_, 0) => count(errors, "error"),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

/// One problem within one file. Places in other files follow as related ones.
#[derive(Debug)]
struct InFile {
    message: String,
    weight: Weight,
    help: Option<String>,
    code: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
}

/// The problem, as one report for each file it has places in.
fn in_files(problem: &Problem) -> Vec<InFile> {
    let mut files: Vec<Arc<Source>> = Vec::new();
    for (span, _) in &problem.places {
        if !files.contains(&span.source) {
            files.push(span.source.clone());
        }
    }
    let mut reports: Vec<InFile> = files.iter().map(|file| in_file(problem, file)).collect();
    if reports.is_empty() {
        reports.push(bare(problem));
    }
    for later in reports.iter_mut().skip(1) {
        later.message = "… and here".into();
        later.weight = Weight::Advice;
    }
    if let Some(last) = reports.last_mut() {
        last.help = problem.hint.as_deref().map(|hint| visible(hint).into_owned());
    }
    reports
}

fn bare(problem: &Problem) -> InFile {
    let weight = match problem.severity {
        Severity::Error => Weight::Error,
        Severity::Warning => Weight::Warning,
    };
    InFile { message: visible(&problem.message).into_owned(), weight, help: None, code: None, labels: Vec::new() }
}

fn in_file(problem: &Problem, file: &Arc<Source>) -> InFile {
    let (text, moved) = harmless(&file.text);
    let places = problem.places.iter().enumerate().filter(|(_, (span, _))| span.source == *file);
    let labels = places.map(|(number, (span, label))| {
        let label = (!label.is_empty()).then(|| visible(label).into_owned());
        let (begin, end) = (moved(span.offset), moved(span.offset + span.len));
        let begin = begin.min(text.len());
        let range = begin..end.clamp(begin, text.len());
        if number == 0 {
            LabeledSpan::new_primary_with_span(label, range)
        } else {
            LabeledSpan::new_with_span(label, range)
        }
    });
    let labels = labels.collect();
    let code = NamedSource::new(visible(file.path.as_str()), text);
    InFile { code: Some(code), labels, ..bare(problem) }
}

/// The text of a file without what would act on a terminal, and where each byte of it has gone.
fn harmless(text: &str) -> (String, impl Fn(usize) -> usize + '_) {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let shown = lines.iter().map(|line| match line.strip_suffix('\n') {
        Some(line) => format!("{}\n", visible(line.strip_suffix('\r').unwrap_or(line))),
        None => visible(line).into_owned(),
    });
    let shown: Vec<String> = shown.collect();
    let all = shown.concat();
    let moved = move |offset: usize| {
        let (mut from, mut to) = (0, 0);
        for (line, shown) in lines.iter().zip(&shown) {
            if offset < from + line.len() {
                let mut within = offset - from;
                while !line.is_char_boundary(within) {
                    within -= 1;
                }
                return to + visible(&line[..within]).len().min(shown.len());
            }
            from += line.len();
            to += shown.len();
        }
        to
    };
    (all, moved)
}

impl fmt::Display for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InFile {}

impl Diagnostic for InFile {
    fn severity(&self) -> Option<Weight> {
        Some(self.weight)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.code.as_ref().map(|code| code as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::Span;

    fn some() -> Problems {
        let text = "stack \"web\" {\n    unit \"go-api\" {\n        exce \"/bin/x\"\n    }\n}\n";
        let web = Source::new("stacks/web/stack.kdl", text);
        let other = Source::new("stacks/b/stack.kdl", "stack \"b\" {\n    unit \"go-api\" \u{1b}[31m\n}\n");
        let mut problems = Problems::default();
        let unknown = Problem::error("unknown node `exce`").at(&Span::new(&web, 42, 4), "not known in a unit");
        problems.push(unknown.hint("did you mean `exec`?"));
        let twice = Problem::error("unit go-api is described twice on web-1").at(&Span::new(&web, 18, 13), "here");
        problems.push(twice.at(&Span::new(&other, 15, 13), "and here").hint("give one of them another name"));
        problems.push(Problem::warning("no host has the tag `old`"));
        problems
    }

    #[test]
    fn problems_in_plain_form() {
        insta::assert_snapshot!(problems_text(&some(), Form { graphical: false, width: 100 }));
    }

    #[test]
    fn problems_in_graphical_form() {
        let text = problems_text(&some(), Form { graphical: true, width: 100 });
        assert!(!anstream::adapter::strip_str(&text).to_string().contains('\u{1b}'));
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string());
    }
}
