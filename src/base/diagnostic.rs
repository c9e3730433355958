//! Problems in a repository's files: where they are, and what to do about them.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

/// A text file of the repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, relative to the repository.
    pub path: Utf8PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The source of `text` at `path`.
    pub fn new(path: impl Into<Utf8PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Source { path: path.into(), text: text.into() })
    }
}

/// A place in a file of the repository.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: Arc<Source>,
    /// Where the place begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub len: usize,
}

impl Span {
    /// The place of `len` bytes at `offset` in `source`; of whole characters, and no more than there is.
    pub fn new(source: &Arc<Source>, offset: usize, len: usize) -> Self {
        let end = source.text.ceil_char_boundary(offset.saturating_add(len));
        let offset = source.text.floor_char_boundary(offset);
        Span { source: source.clone(), offset, len: end - offset }
    }

    /// The file's path, relative to the repository.
    pub fn path(&self) -> &Utf8Path {
        &self.source.path
    }

    /// Line and column, both counted from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        let text = &self.source.text;
        let mut end = self.offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.path)
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can be done until it is mended.
    Error,
    /// Probably a mistake.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// Where. The first is the place itself, any others show what it clashes with. Empty for the repository as a whole.
    pub places: Vec<(Span, String)>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Problem {
    /// An error with this message.
    pub fn error(message: impl Into<String>) -> Self {
        Problem { severity: Severity::Error, message: message.into(), places: Vec::new(), hint: None }
    }

    /// A warning with this message.
    pub fn warning(message: impl Into<String>) -> Self {
        Problem { severity: Severity::Warning, ..Problem::error(message) }
    }

    /// The same problem at a place, with a word about it (may be empty).
    #[must_use]
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.places.push((span.clone(), label.into()));
        self
    }

    /// The same problem, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All that is wrong with a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a problem, unless the same one is there already.
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Adds all problems of another list.
    pub fn extend(&mut self, other: Problems) {
        other.0.into_iter().for_each(|problem| self.push(problem));
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

/// The candidate nearest to `word`, where one is near enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Restricted Damerau-Levenshtein distance: insertions, deletions, substitutions, swaps of neighbours.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substitution.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}
