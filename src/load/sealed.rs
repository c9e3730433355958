//! Files of the repository that are encrypted, as a stack or a hosts file names them.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::secret::Secret;
use crate::load::Secrets;
use crate::load::reading::{Reading, shown, start_of, with_known};
use crate::resource::lowering::join_within;
use crate::sealed::header::{self, Stanza};
use crate::sealed::named::{self, Named, Wrong};
use crate::sealed::{Locked, RECIPIENTS, Recipients, sops};

/// In which form a file has secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// One secret.
    Single,
    /// Secrets by name.
    Named,
    /// Values of SOPS.
    Sops,
}

/// What to do about a secret that stands in clear in the repository.
const LEAKED: &str = "encrypt it with `reconcile secret encrypt`, and change the secret itself: what was in a commit is \
                      known to whoever has the repository";

/// What came of a file of values that may be one of SOPS.
pub(super) enum Sops {
    /// It is none.
    No,
    /// It is, and what is wrong has been reported.
    Failed,
    /// Its values.
    Opened(sops::Opened),
}

/// `secret "x" age="FILE"`.
pub(super) fn single(reading: &Reading<'_>, folder: &Utf8Path, name: &Text) -> Option<Secret> {
    let path = find(reading, folder, name)?;
    let bytes = reading.files.get(&path)?;
    reading.sealed.borrow_mut().insert(path.clone(), Sealed::Single);
    if !header::is_age(bytes) {
        let (what, hint) = if named::is_sealed(std::str::from_utf8(bytes).unwrap_or_default()) {
            ("has several secrets", format!("write `secrets \"{}\"`", name.raw))
        } else {
            ("is not encrypted", LEAKED.into())
        };
        let problem = Problem::error(format!("{} {what}", shown(path.as_str())));
        reading.report(problem.at(&name.span, "named here").hint(hint));
        return None;
    }
    warn_of_recipients(reading, &path, &start_of(&path), bytes);
    open(reading, bytes, &path, &name.span).map(Secret::file)
}

/// `secrets "FILE"`: the names in it, each with its secret, if that could be read, and its place.
pub(super) fn named(reading: &Reading<'_>, folder: &Utf8Path, name: &Text) -> Vec<(String, Option<Secret>, Span)> {
    let Some(path) = find(reading, folder, name) else { return Vec::new() };
    let Some(source) = reading.text(&path) else { return Vec::new() };
    if header::is_age(source.text.as_bytes()) {
        let problem = Problem::error(format!("{} is one secret, not several by name", shown(path.as_str())));
        let hint = format!("write `secret \"NAME\" age=\"{}\"`", name.raw);
        reading.report(problem.at(&name.span, "named here").hint(hint));
        return Vec::new();
    }
    if is_sops(&source.text) {
        let problem = Problem::error(format!("{} is a file of SOPS", shown(path.as_str())));
        let hint = format!("write `values \"{}\"`: what is encrypted in it becomes `secret.NAME`", name.raw);
        reading.report(problem.at(&name.span, "named here").hint(hint));
        return Vec::new();
    }
    reading.sealed.borrow_mut().insert(path.clone(), Sealed::Named);
    let shown_source = named::masked(&path, &source.text);
    let report = |wrong: &Wrong| reading.report(named::problem(&shown_source, wrong));
    let file = match Named::parse(&source.text) {
        Ok(file) => file,
        Err(wrong) => {
            report(&wrong);
            return Vec::new();
        }
    };
    let values = match file.values() {
        Ok(values) => values,
        Err(wrong) => {
            report(&wrong);
            return Vec::new();
        }
    };
    let mut is_for_all = true;
    let read = values.into_iter().map(|(secret, value, line)| {
        let at = place(&shown_source, line, secret);
        if !header::is_age(value.as_bytes()) {
            let problem = Problem::error(format!("the secret {} is not encrypted", shown(secret)));
            reading.report(problem.at(&at, "here").hint(LEAKED));
            return (secret.to_string(), None, at);
        }
        // One word for the file is enough.
        is_for_all = is_for_all && warn_of_recipients(reading, &path, &at, value.as_bytes());
        let opened = open(reading, value.as_bytes(), &path, &at);
        let opened = opened.and_then(|bytes| text(reading, bytes, &at));
        (secret.to_string(), opened, at)
    });
    read.collect()
}

/// The values of a file, if it is one of SOPS.
pub(super) fn sops(reading: &Reading<'_>, path: &Utf8Path, values: &Map<String, Value>, named: &Span) -> Sops {
    let Some(file) = sops::File::new(values, path.extension() == Some("json")) else { return Sops::No };
    reading.sealed.borrow_mut().insert(path.to_owned(), Sealed::Sops);
    let opened = match reading.secrets {
        Secrets::Placeholder => file.with_placeholders().map_err(Locked::Damaged),
        Secrets::Required => file.open(&reading.identities),
    };
    match opened {
        Ok(opened) => Sops::Opened(opened),
        Err(locked) => {
            report(reading, path, &locked, named);
            Sops::Failed
        }
    }
}

/// Whether this file cannot be values, as it is encrypted as a whole; that has been reported then.
pub(super) fn refuse_as_values(reading: &Reading<'_>, path: &Utf8Path, name: &Text) -> bool {
    let text = reading.files.get(path).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let hint = if named::is_sealed(text) && !is_sops(text) {
        format!("write `secrets \"{}\"`", name.raw)
    } else if header::is_age(text.as_bytes()) {
        format!("write `secret \"NAME\" age=\"{}\"`", name.raw)
    } else {
        return false;
    };
    let problem = Problem::error(format!("{} is encrypted with age", shown(path.as_str())));
    reading.report(problem.at(&name.span, "named here").hint(hint));
    true
}

/// Refuses files whose names say that they are encrypted and that are not, whether anything uses them or not.
pub(super) fn refuse_plain_files(reading: &Reading<'_>) {
    for (path, bytes) in reading.files {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let inner = path.file_stem().and_then(|stem| Utf8Path::new(stem).extension());
        let is_plain = match path.extension() {
            Some("age") => !header::is_age(bytes),
            Some("yaml" | "yml") if inner == Some("age") => !named::is_sealed(text) && !header::is_age(bytes),
            Some("yaml" | "yml" | "json") if inner == Some("sops") => !is_sops(text),
            _ => false,
        };
        // What something names is judged there.
        if is_plain && !reading.sealed.borrow().contains_key(path) {
            let problem = Problem::error(format!("{} is not encrypted, though its name says so", shown(path.as_str())));
            reading.report(problem.at(&start_of(path), "").hint(LEAKED));
        }
    }
}

/// Whether a text is a file of SOPS, by its look.
pub fn is_sops(text: &str) -> bool {
    let top = |line: &str| line.starts_with("sops:") || line.trim_start().starts_with("\"sops\":");
    text.lines().any(top) && text.contains("ENC[AES256_GCM,")
}

fn find(reading: &Reading<'_>, folder: &Utf8Path, name: &Text) -> Option<Utf8PathBuf> {
    let Some(path) = join_within(folder, &name.raw) else {
        let problem = Problem::error(format!("{} leads out of the repository", shown(&name.raw)));
        reading.report(problem.at(&name.span, "here").hint("name a file of the repository"));
        return None;
    };
    if reading.files.contains_key(&path) {
        return Some(path);
    }
    let problem = Problem::error(format!("the repository has no file {}", shown(path.as_str())));
    let problem = problem.at(&name.span, "named here");
    let sealed = reading.files.iter().filter(|(_, bytes)| header::is_age(bytes)).map(|(path, _)| path.as_str());
    let problem = with_known(problem, path.as_str(), "encrypted files", sealed.clone());
    let problem = if sealed.count() > 0 {
        problem
    } else {
        problem.hint(format!(
            "make it: `reconcile secret edit {path}`, or `reconcile secret encrypt {path}` from standard input"
        ))
    };
    reading.report(problem);
    None
}

/// The content, if it is wanted and can be had.
fn open(reading: &Reading<'_>, sealed: &[u8], path: &Utf8Path, at: &Span) -> Option<Vec<u8>> {
    let opened = match reading.secrets {
        // As far as it can be judged without a key.
        Secrets::Placeholder => {
            header::dearmored(sealed).and_then(|bytes| header::stanzas(&bytes)).map(|_| None).map_err(Locked::Damaged)
        }
        Secrets::Required => reading.identities.open(sealed).map(Some),
    };
    match opened {
        Ok(content) => content.map(|content| content.to_vec()),
        Err(locked) => {
            report(reading, path, &locked, at);
            None
        }
    }
}

fn text(reading: &Reading<'_>, bytes: Vec<u8>, at: &Span) -> Option<Secret> {
    let read = String::from_utf8(bytes).ok().map(Secret::new);
    if read.is_none() {
        let problem = Problem::error("this secret is not text").at(at, "here");
        reading.report(problem.hint("give it a file of its own: `secret \"NAME\" age=\"FILE\"`"));
    }
    read
}

fn report(reading: &Reading<'_>, path: &Utf8Path, locked: &Locked, at: &Span) {
    let problem = Problem::error(format!("{} {}", shown(path.as_str()), locked.why()));
    // One word for the file is enough.
    let is_same = |other: &Problem| other.message == problem.message && matches!(locked, Locked::NoIdentity { .. });
    if reading.problems.borrow().0.iter().any(is_same) {
        return;
    }
    reading.report(problem.at(at, "needed here").hint(locked.hint()));
}

/// Warns of something that is encrypted for others than the recipients that are listed. Whether it is for them.
fn warn_of_recipients(reading: &Reading<'_>, path: &Utf8Path, at: &Span, sealed: &[u8]) -> bool {
    let Some(recipients) = recipients(reading) else { return true };
    let stanzas = header::dearmored(sealed).and_then(|bytes| header::stanzas(&bytes));
    if let Ok(stanzas) = stanzas
        && !recipients.fit(&stanzas)
    {
        let is_for: Vec<String> = stanzas.iter().map(Stanza::to_string).collect();
        let what = format!(
            "{} is encrypted for other recipients than those listed: {}",
            shown(path.as_str()),
            is_for.join(", ")
        );
        let hint =
            format!("`reconcile secret rekey` encrypts everything for the {} of `{RECIPIENTS}`", recipients.count());
        reading.report(Problem::warning(what).at(at, "").hint(hint));
        return false;
    }
    true
}

/// The recipients that are listed. What is wrong with the list is reported, as often as it is asked for: the same problem
/// is kept once.
fn recipients(reading: &Reading<'_>) -> Option<Recipients> {
    let path = Utf8Path::new(RECIPIENTS);
    if !reading.files.contains_key(path) {
        return None;
    }
    let source = reading.text(path)?;
    Recipients::parse(&source)
        .map_err(|problems| problems.0.into_iter().for_each(|problem| reading.report(problem)))
        .ok()
}

/// Where a name stands in a file of named secrets.
fn place(source: &std::sync::Arc<Source>, line: usize, name: &str) -> Span {
    let offset = source.text.split_inclusive('\n').take(line).map(str::len).sum();
    Span::new(source, offset, name.len())
}
