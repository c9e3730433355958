//! What every part of loading needs: the files, the world outside, and the list of problems.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Problem, Problems, Source, Span, did_you_mean};
use crate::base::template::Templates;
use crate::load::{Sealed, Secrets};
use crate::sealed::{Identities, World};

/// How much of a name that somebody wrote is repeated in a message.
const SHOWN: usize = 60;

/// One loading of one repository.
pub(super) struct Reading<'a> {
    pub(super) files: &'a BTreeMap<Utf8PathBuf, Arc<[u8]>>,
    pub(super) world: World<'a>,
    pub(super) identities: Identities<'a>,
    pub(super) secrets: Secrets,
    /// The files with secrets in them that were read so far.
    pub(super) sealed: RefCell<BTreeMap<Utf8PathBuf, Sealed>>,
    pub(super) problems: RefCell<Problems>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(files: &'a BTreeMap<Utf8PathBuf, Arc<[u8]>>, world: World<'a>, secrets: Secrets) -> Self {
        let identities = Identities::new(world);
        Reading { files, world, identities, secrets, sealed: RefCell::default(), problems: RefCell::default() }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The text of the file at `path`, which must be there. What is not UTF-8 is reported.
    pub(super) fn text(&self, path: &Utf8Path) -> Option<Arc<Source>> {
        let bytes = self.files.get(path)?;
        match std::str::from_utf8(bytes) {
            // A byte order mark is no text; editors on Windows put it there.
            Ok(text) => Some(Source::new(path, text.strip_prefix('\u{feff}').unwrap_or(text))),
            Err(error) => {
                let readable = String::from_utf8_lossy(bytes);
                let source = Source::new(path, readable);
                let at = Span::new(&source, error.valid_up_to(), 1);
                let problem =
                    Problem::error(format!("`{path}` is not text: it is not valid UTF-8")).at(&at, "from here");
                self.report(problem.hint("save it as UTF-8"));
                None
            }
        }
    }

    /// The files right in `folder` whose name ends with `suffix`.
    pub(super) fn directly_in(&self, folder: &str, suffix: &str) -> Vec<&'a Utf8PathBuf> {
        let inside =
            |path: &&Utf8PathBuf| path.parent() == Some(Utf8Path::new(folder)) && path.as_str().ends_with(suffix);
        self.below(folder).filter(inside).collect()
    }

    /// All files below `folder`.
    fn below(&self, folder: &str) -> impl Iterator<Item = &'a Utf8PathBuf> + use<'a> {
        let prefix = Utf8PathBuf::from(folder);
        self.files.range(prefix.clone()..).map(|(path, _)| path).take_while(move |path| path.starts_with(&prefix))
    }

    /// The folders right in `stacks/`.
    pub(super) fn stack_folders(&self) -> BTreeSet<&'a str> {
        let folder = |path: &'a Utf8PathBuf| {
            let mut parts = path.components().skip(1).map(|part| part.as_str());
            let folder = parts.next()?;
            parts.next().map(|_| folder)
        };
        self.below("stacks").filter_map(folder).collect()
    }

    /// The folders right in `stacks/` that have a `stack.kdl`.
    pub(super) fn stacks(&self) -> BTreeSet<&'a str> {
        let mut folders = self.stack_folders();
        folders.retain(|folder| self.files.contains_key(&Utf8PathBuf::from(format!("stacks/{folder}/stack.kdl"))));
        folders
    }

    /// Built-in templates, with those below `templates/` taking over.
    pub(super) fn templates(&self) -> Option<Templates> {
        let mut own = BTreeMap::new();
        for path in self.below("templates") {
            let Ok(name) = path.strip_prefix("templates") else { continue };
            if let Some(source) = self.text(path) {
                own.insert(name.to_string(), source);
            }
        }
        Templates::new(own).map_err(|problems| problems.into_iter().for_each(|problem| self.report(problem))).ok()
    }

    /// Files that look as if they were meant to be read, and are not.
    pub(super) fn warn_of_strays(&self) {
        let nested = |path: &&Utf8PathBuf| path.components().count() > 2;
        for path in self.below("hosts").filter(nested).filter(|path| path.extension() == Some("kdl")) {
            let problem = Problem::warning(format!("`{path}` is not read"));
            self.report(problem.at(&start_of(path), "").hint("hosts are described in files right in `hosts/`"));
        }
        for path in self.directly_in("stacks", ".kdl") {
            let name = path.file_stem().unwrap_or_default();
            let problem = Problem::warning(format!("`{path}` is not read")).at(&start_of(path), "");
            self.report(problem.hint(format!("move it to `stacks/{name}/stack.kdl`")));
        }
    }
}

/// The beginning of a file of which only the path is of interest.
pub(super) fn start_of(path: &Utf8Path) -> Span {
    Span::new(&Source::new(path, ""), 0, 0)
}

/// Something that somebody wrote, safe to repeat in a message: on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The problem with a hint: the nearest of `known`, or all of them if they are few.
pub(super) fn with_known<'k>(
    problem: Problem,
    word: &str,
    what: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Problem {
    if let Some(near) = did_you_mean(word, known.clone()) {
        return problem.hint(format!("did you mean `{near}`?"));
    }
    let names: Vec<&str> = known.take(9).collect();
    match names.len() {
        0 => problem.hint(format!("there are no {what}")),
        9 => problem,
        _ => problem.hint(format!("{what}: {}", names.join(", "))),
    }
}

/// The problems in the order in which one would fix them: by file, then by place. Those of no file come first.
pub fn sorted(mut problems: Problems) -> Problems {
    problems.0.sort_by(|a, b| place(a).cmp(&place(b)));
    problems
}

fn place(problem: &Problem) -> Option<(&Utf8Path, usize)> {
    problem.places.first().map(|(span, _)| (span.path(), span.offset))
}
