//! Secrets: `secret "db" env="DB_PASSWORD"`, `file="~/db-password"` or `age="db.age"`, and `secrets "FILE"` for many.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::secret::{Secret, SecretTree};
use crate::load::reading::{Reading, shown};
use crate::load::{Secrets, sealed, vars};

/// Secrets by name, with the place where each is named.
pub(super) type Found = BTreeMap<String, (SecretTree, Span)>;

/// Reads one `secret` node into `found`. Files of the repository are named relative to `folder`.
pub(super) fn read(reading: &Reading<'_>, mut reader: Reader<'_>, folder: &Utf8Path, found: &mut Found) {
    let name = reader.required("the name of the secret");
    let (env, file, age) = (reader.value("env"), reader.value("file"), reader.value("age"));
    let given = [&env, &file, &age].into_iter().flatten().count();
    if let Some(name) = name.as_ref().filter(|_| given != 1) {
        let many = if given > 0 { "more than one of" } else { "none of" };
        let what = format!("the secret {} has {many} `env`, `file` and `age`", shown(&name.raw));
        let hint = format!("write `secret \"{}\" env=\"NAME\"`, `file=\"/path\"` or `age=\"NAME.age\"`", name.raw);
        reader.report(Problem::error(what).at(&reader.span(), "here").hint(hint));
    }
    reader.finish();
    let Some(name) = name else { return };
    if !may_add(reading, &name.raw, &name.span, found) {
        return;
    }
    let secret = match (env, file, age) {
        (Some(env), None, None) => from_env(reading, &env).map(Secret::new),
        (None, Some(file), None) => from_file(reading, &file),
        (None, None, Some(age)) => sealed::single(reading, folder, &age),
        _ => return,
    };
    // A secret that could not be read still has a name: its uses are no mistakes.
    let secret = secret.unwrap_or_else(|| placeholder(&name.raw));
    found.insert(name.raw, (secret.into(), name.span));
}

/// Reads one `secrets` node, which names files of named secrets, into `found`.
pub(super) fn read_files(reading: &Reading<'_>, mut reader: Reader<'_>, folder: &Utf8Path, found: &mut Found) {
    let first = reader.required("the name of a file of secrets");
    for file in first.into_iter().chain(reader.args()) {
        for (name, secret, span) in sealed::named(reading, folder, &file) {
            if may_add(reading, &name, &span, found) {
                let secret = secret.unwrap_or_else(|| placeholder(&name));
                found.insert(name, (secret.into(), span));
            }
        }
    }
    reader.finish();
}

/// Whether a secret can be called so, and nothing else is yet.
fn may_add(reading: &Reading<'_>, name: &str, span: &Span, found: &Found) -> bool {
    if let Some((why, hint)) = vars::unusable(name) {
        let problem = Problem::error(format!("a secret cannot be called {}: {why}", shown(name)));
        reading.report(problem.at(span, "here").hint(hint));
        return false;
    }
    if let Some((_, other)) = found.get(name) {
        let problem = Problem::error(format!("the secret {} is given twice", shown(name)));
        reading.report(problem.at(span, "the second one").at(other, "the first one"));
        return false;
    }
    true
}

/// What stands for a secret that is not read.
fn placeholder(name: &str) -> Secret {
    Secret::new(format!("placeholder-for-{name}"))
}

fn from_env(reading: &Reading<'_>, name: &Text) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.raw.is_empty() || !name.raw.chars().all(plain) {
        let problem = Problem::error(format!("{} is no name of an environment variable", shown(&name.raw)));
        reading.report(problem.at(&name.span, "here").hint("it has letters, digits and `_`"));
        return None;
    }
    if reading.secrets == Secrets::Placeholder {
        return None;
    }
    let value = (reading.world.env)(&name.raw).filter(|value| !value.is_empty());
    if value.is_none() {
        let problem = Problem::error(format!("the environment variable `{}` is not set", name.raw));
        reading.report(problem.at(&name.span, "needed here").hint("set it where reconcile runs"));
    }
    value
}

fn from_file(reading: &Reading<'_>, name: &Text) -> Option<Secret> {
    let path = outside(reading, name)?;
    if reading.secrets == Secrets::Placeholder {
        return None;
    }
    let failed = |why: String, hint: &str| {
        let problem = Problem::error(format!("the secret file {} {why}", shown(path.as_str())));
        reading.report(problem.at(&name.span, "needed here").hint(hint));
        None
    };
    let bytes = match (reading.world.read)(&path) {
        Ok(bytes) => bytes,
        Err(error) => return failed(format!("cannot be read: {error}"), "put it where reconcile runs"),
    };
    let secret = Secret::file(bytes);
    if secret.bytes().is_empty() || secret.text() == Some("") {
        return failed("is empty".into(), "write the secret into it");
    }
    Some(secret)
}

/// An absolute path from `/path` or `~/path`.
fn outside(reading: &Reading<'_>, name: &Text) -> Option<Utf8PathBuf> {
    if let Some(rest) = name.raw.strip_prefix("~/") {
        // With placeholders nothing is read, so it does not matter where home is.
        let home = (reading.world.env)("HOME").unwrap_or_else(|| "/".into());
        return Some(Utf8Path::new(&home).join(rest));
    }
    if name.raw.starts_with('/') {
        return Some(name.raw.clone().into());
    }
    let problem = Problem::error(format!("the secret file {} is not outside of the repository", shown(&name.raw)));
    reading.report(problem.at(&name.span, "here").hint("write an absolute path, or one that begins with `~/`"));
    None
}
