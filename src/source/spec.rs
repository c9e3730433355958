//! How a repository is named: `DIR`, `DIR@REV`, `URL` or `URL@REV`.

use std::fmt;

use camino::Utf8PathBuf;

use crate::base::error::{Error, Kind, Result};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(Utf8PathBuf),
    /// `https://`, `ssh://`, `file://`, or `user@host:path`.
    Url(String),
}

/// A repository and a revision of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where the repository is.
    pub place: Place,
    /// A branch, tag, commit, or anything else `git rev-parse` knows. `None` is the work tree of a directory, and the
    /// default branch of a URL.
    pub revision: Option<String>,
}

impl Spec {
    /// Reads a spec. In a URL the revision stands after the last `@` that follows the first `/` of the path, so that
    /// a user's name is none; a directory whose whole name exists has no revision. Fails with [`Kind::Usage`].
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Kind::Usage, format!("`{}` names no repository: {why}", without_password(text)))
                .hint("a directory, https://host/path, ssh://user@host/path, user@host:path or file:///path, with @REV if wanted")
        };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        let Some(path) = path_of_url(text) else {
            if let Some((scheme, _)) = text.split_once("://") {
                return Err(wrong(&format!("{scheme}:// is not supported")));
            }
            return Ok(Spec::directory(text));
        };
        let (place, revision) = split_revision(text, path);
        if revision.is_some_and(str::is_empty) {
            return Err(wrong("nothing follows the @"));
        }
        Ok(Spec { place: Place::Url(place.into()), revision: revision.map(Into::into) })
    }

    fn directory(text: &str) -> Self {
        let (place, revision) = split_revision(text, 0);
        match revision {
            Some(revision) if !revision.is_empty() && !place.is_empty() && !std::path::Path::new(text).exists() => {
                Spec { place: Place::Directory(place.into()), revision: Some(revision.into()) }
            }
            _ => Spec { place: Place::Directory(text.into()), revision: None },
        }
    }
}

/// For people: never with a password. A directory is shown from the root on, where there is one.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Directory(directory) => {
                f.write_str(directory.canonicalize_utf8().as_deref().unwrap_or(directory).as_str())
            }
            Place::Url(url) => f.write_str(&without_password(url)),
        }
    }
}

/// For people: never with a password.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Directory(directory) => f.write_str(directory.as_str())?,
            Place::Url(url) => f.write_str(&without_password(url))?,
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Where the path of a URL begins, if `text` is one.
fn path_of_url(text: &str) -> Option<usize> {
    for scheme in ["https://", "ssh://", "file://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return Some(scheme.len() + rest.find('/').unwrap_or(rest.len()));
        }
    }
    let colon = text.find(':')?;
    let is_host = !text[..colon].contains('/') && !text[colon..].starts_with("://") && colon > 0;
    is_host.then_some(colon + 1)
}

/// Splits at the last `@` from `path` on. An `@{` belongs to a revision such as `HEAD@{1}`.
fn split_revision(text: &str, path: usize) -> (&str, Option<&str>) {
    let mut ats = text[path..].match_indices('@').map(|(at, _)| path + at);
    match ats.rfind(|at| !text[at + 1..].starts_with('{')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The URL with a mask in place of the password that it may hold.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return url.to_string() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{}{}", crate::base::secret::MASK, &rest[at..]),
        None => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let table = [
            ("https://example.org/a.git", "https://example.org/a.git", None),
            ("https://me@example.org/a.git", "https://me@example.org/a.git", None),
            ("https://me:pw@example.org/a.git@v1", "https://me:pw@example.org/a.git", Some("v1")),
            ("ssh://git@example.org:22/a/b.git@feature/x", "ssh://git@example.org:22/a/b.git", Some("feature/x")),
            ("git@example.org:a.git", "git@example.org:a.git", None),
            ("git@example.org:a/b.git@main~2", "git@example.org:a/b.git", Some("main~2")),
            ("file:///srv/a@b/repo@v2", "file:///srv/a@b/repo", Some("v2")),
        ];
        for (text, url, revision) in table {
            let spec = Spec::parse(text).expect(text);
            assert_eq!(spec, Spec { place: Place::Url(url.into()), revision: revision.map(Into::into) });
        }
        for (text, directory, revision) in
            [(".", ".", None), (".@HEAD~1", ".", Some("HEAD~1")), ("/x@HEAD@{1}", "/x", Some("HEAD@{1}"))]
        {
            let spec = Spec::parse(text).expect(text);
            assert_eq!(spec, Spec { place: Place::Directory(directory.into()), revision: revision.map(Into::into) });
        }
        for text in ["", "http://example.org/a", "git://example.org/a", "https://example.org/a@"] {
            assert!(Spec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn passwords_are_masked() {
        let spec = Spec::parse("https://me:pw@example.org/a.git@v1").expect("parses");
        assert_eq!(spec.to_string(), "https://me:‹secret›@example.org/a.git@v1");
        let error = Spec::parse("http://me:pw@example.org/a").expect_err("plain http");
        assert!(!error.what.contains("pw"), "{error}");
    }
}
