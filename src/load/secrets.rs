//! Secrets: `secret "db" env="DB_PASSWORD"` or `secret "db" file="~/db-password"`.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::secret::Secret;
use crate::load::reading::{Reading, shown};
use crate::load::{Secrets, vars};

/// Secrets by name, with the place where each is named.
pub(super) type Found = BTreeMap<String, (Secret, Span)>;

/// Reads one `secret` node into `found`.
pub(super) fn read(reading: &Reading<'_>, mut reader: Reader<'_>, found: &mut Found) {
    let name = reader.required("the name of the secret");
    let (env, file) = (reader.value("env"), reader.value("file"));
    let span = reader.span();
    reader.finish();
    let Some(name) = name else { return };
    if let Some((why, hint)) = vars::unusable(&name.raw) {
        let problem = Problem::error(format!("a secret cannot be called {}: {why}", shown(&name.raw)));
        reading.report(problem.at(&name.span, "here").hint(hint));
        return;
    }
    if let Some((_, other)) = found.get(&name.raw) {
        let problem = Problem::error(format!("the secret {} is given twice", shown(&name.raw)));
        reading.report(problem.at(&name.span, "the second one").at(other, "the first one"));
        return;
    }
    let value = match (env, file) {
        (Some(env), None) => from_env(reading, &env),
        (None, Some(file)) => from_file(reading, &file),
        (given, _) => {
            let many = if given.is_some() { "both `env` and `file`" } else { "neither `env` nor `file`" };
            let problem = Problem::error(format!("the secret {} has {many}", shown(&name.raw)));
            let hint = format!("write `secret \"{}\" env=\"NAME\"` or `file=\"/path\"`", name.raw);
            reading.report(problem.at(&span, "here").hint(hint));
            return;
        }
    };
    // A secret that could not be read still has a name: its uses are no mistakes.
    let value = value.unwrap_or_else(|| placeholder(&name.raw));
    found.insert(name.raw, (Secret::new(value), name.span));
}

/// What stands for a secret that is not read.
fn placeholder(name: &str) -> String {
    format!("placeholder-for-{name}")
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
    let value = (reading.env)(&name.raw).filter(|value| !value.is_empty());
    if value.is_none() {
        let problem = Problem::error(format!("the environment variable `{}` is not set", name.raw));
        reading.report(problem.at(&name.span, "needed here").hint("set it where reconcile runs"));
    }
    value
}

fn from_file(reading: &Reading<'_>, name: &Text) -> Option<String> {
    let path = outside(reading, name)?;
    if reading.secrets == Secrets::Placeholder {
        return None;
    }
    let failed = |why: String, hint: &str| {
        let problem = Problem::error(format!("the secret file {} {why}", shown(path.as_str())));
        reading.report(problem.at(&name.span, "needed here").hint(hint));
        None
    };
    let bytes = match (reading.read_outside)(&path) {
        Ok(bytes) => bytes,
        Err(error) => return failed(format!("cannot be read: {error}"), "put it where reconcile runs"),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return failed("is not text".into(), "encode it, for example with base64");
    };
    // Editors and `echo` put a newline there, which is never part of the secret.
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return failed("is empty".into(), "write the secret into it");
    }
    Some(text.to_string())
}

/// An absolute path from `/path` or `~/path`.
fn outside(reading: &Reading<'_>, name: &Text) -> Option<Utf8PathBuf> {
    if let Some(rest) = name.raw.strip_prefix("~/") {
        // With placeholders nothing is read, so it does not matter where home is.
        let home = (reading.env)("HOME").unwrap_or_else(|| "/".into());
        return Some(Utf8Path::new(&home).join(rest));
    }
    if name.raw.starts_with('/') {
        return Some(name.raw.clone().into());
    }
    let problem = Problem::error(format!("the secret file {} is not outside of the repository", shown(&name.raw)));
    reading.report(problem.at(&name.span, "here").hint("write an absolute path, or one that begins with `~/`"));
    None
}
