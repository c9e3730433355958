//! The repository whose secrets are worked on: a directory, its recipients, and its files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use zeroize::Zeroizing;

use crate::base::diagnostic::{Problems, Source};
use crate::base::error::{Error, Kind, Result};
use crate::cli::ask::Passphrases;
use crate::cli::{Call, wire};
use crate::load::sealed::is_sops;
use crate::sealed::named::{self, Named, Wrong};
use crate::sealed::{Identities, RECIPIENTS, Recipients, header};
use crate::source::Place;

/// A repository in a directory.
pub(super) struct Repository {
    /// Its directory.
    pub root: Utf8PathBuf,
}

/// A file of secrets.
pub(super) enum Form {
    /// One secret, as text or not.
    Single { armored: bool },
    /// Several by name.
    Named(Named),
}

impl Repository {
    /// The repository of the command line, which must be a directory as it stands.
    pub(super) fn open(call: &Call) -> Result<Repository> {
        let spec = wire::spec(call.common)?;
        match (spec.place, spec.revision) {
            (Place::Directory(root), None) => Ok(Repository { root }),
            _ => {
                Err(Error::new(Kind::Usage, "secrets can only be worked on in a directory, not in a URL or a revision")
                    .hint("clone the repository, and go there"))
            }
        }
    }

    /// The path in the repository of a file that the person named from where they stand.
    pub(super) fn path(&self, named: &Utf8Path) -> Result<Utf8PathBuf> {
        let failed = |cause: io::Error| Error::new(Kind::Usage, format!("`{named}` cannot be reached")).because(cause);
        let root = self.root.canonicalize_utf8().map_err(failed)?;
        let folder = named.parent().filter(|folder| *folder != "").unwrap_or(Utf8Path::new("."));
        // The file and its folders may not be there yet.
        let there = folder.ancestors().map(|folder| if folder == "" { Utf8Path::new(".") } else { folder });
        let there = there.into_iter().find(|folder| folder.exists()).unwrap_or(Utf8Path::new("."));
        let rest = if there == "." { named } else { named.strip_prefix(there).unwrap_or(named) };
        let full = there.canonicalize_utf8().map_err(failed)?.join(rest);
        let inside = full.strip_prefix(&root).ok().filter(|path| *path != "").map(Utf8Path::to_owned);
        let inside = inside.filter(|path| path.components().all(|part| part.as_str() != ".."));
        inside.ok_or_else(|| {
            let hint = format!("the repository is {}; name a file there, or another repository by --repo", self.root);
            Error::new(Kind::Usage, format!("`{named}` is not in the repository")).hint(hint)
        })
    }

    /// The bytes of a file, or nothing if there is no such file.
    pub(super) fn read(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(Kind::Usage, format!("`{path}` cannot be read")).because(error)),
        }
    }

    /// Who is to be able to read secrets.
    pub(super) fn recipients(&self) -> Result<Recipients> {
        let Some(bytes) = self.read(Utf8Path::new(RECIPIENTS))? else {
            return Err(Error::new(Kind::Config, format!("there is no `{RECIPIENTS}`: nobody to encrypt for")).hint(
                "`reconcile secret init` makes an identity and lists its recipient; or list one yourself: age1…, \
                 ssh-ed25519 … or ssh-rsa …, one a line",
            ));
        };
        let source = Source::new(RECIPIENTS, String::from_utf8_lossy(&bytes));
        Recipients::parse(&source).map_err(Error::problems)
    }

    /// Puts a file in its place, all of it or nothing.
    pub(super) fn write(&self, path: &Utf8Path, content: &[u8]) -> Result<()> {
        self.prepare(path, content)?.put()
    }

    /// Writes a file beside its place.
    pub(super) fn prepare(&self, path: &Utf8Path, content: &[u8]) -> Result<Prepared> {
        let failed = |cause: io::Error| Error::new(Kind::Usage, format!("`{path}` cannot be written")).because(cause);
        // A link stays one: what it leads to is written.
        let place = self.root.join(path);
        let place = place.canonicalize_utf8().unwrap_or(place);
        let folder = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed)?;
        let beside = folder.join(format!(".{}.{}.new", place.file_name().unwrap_or_default(), std::process::id()));
        let prepared = Prepared { place, beside };
        let write = || {
            let mut file = File::create(&prepared.beside)?;
            if let Ok(there) = fs::metadata(&prepared.place) {
                file.set_permissions(fs::Permissions::from_mode(there.permissions().mode() & 0o777))?;
            }
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(failed)?;
        Ok(prepared)
    }
}

/// A file that is written, but not in its place yet. Dropped, it is gone.
pub(super) struct Prepared {
    place: Utf8PathBuf,
    beside: Utf8PathBuf,
}

impl Prepared {
    /// Puts it in its place.
    pub(super) fn put(self) -> Result<()> {
        let failed =
            |cause: io::Error| Error::new(Kind::Usage, format!("`{}` cannot be written", self.place)).because(cause);
        fs::rename(&self.beside, &self.place).map_err(failed)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // After it was put in its place, there is nothing left.
        let _ = fs::remove_file(&self.beside);
    }
}

impl Form {
    /// In which form a file has secrets in it. One in clear is refused.
    pub(super) fn of(path: &Utf8Path, bytes: &[u8]) -> Result<Form> {
        if header::is_age(bytes) {
            let armored = !bytes.starts_with(b"age-encryption.org/");
            return Ok(Form::Single { armored });
        }
        if bytes.is_empty() {
            let error = Error::new(Kind::Config, format!("`{path}` is empty"));
            return Err(error.hint(format!("remove it, then make it anew: reconcile secret encrypt {path}")));
        }
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if is_sops(text) {
            let hint = format!("change it with sops itself: sops edit {path}");
            return Err(
                Error::new(Kind::Config, format!("`{path}` is a file of SOPS, which is only read here")).hint(hint)
            );
        }
        let is_new = text.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        if !named::is_sealed(text) && (!is_new || text.is_empty()) {
            let hint = "encrypt what is in it: `reconcile secret encrypt` with --from; and change the secret, if it was in a commit";
            return Err(Error::new(Kind::Config, format!("`{path}` is not encrypted")).hint(hint));
        }
        Named::parse(text).map(Form::Named).map_err(|wrong| wrong_file(path, text, &wrong))
    }
}

/// The error of a file of named secrets.
pub(super) fn wrong_file(path: &Utf8Path, text: &str, wrong: &Wrong) -> Error {
    Error::problems(Problems(vec![named::problem(&named::masked(path, text), wrong)]))
}

/// The values of a file of named secrets, decrypted.
pub(super) fn opened(
    path: &Utf8Path,
    file: &Named,
    identities: &Identities<'_>,
) -> Result<Vec<(String, Zeroizing<String>)>> {
    let text = file.text();
    let values = file.values().map_err(|wrong| wrong_file(path, &text, &wrong))?;
    let opened = values.into_iter().map(|(name, value, line)| {
        if !header::is_age(value.as_bytes()) {
            return Err(wrong_file(
                path,
                &text,
                &Wrong { line, what: format!("the secret `{name}` is not encrypted") },
            ));
        }
        let content = identities.open(value.as_bytes()).map_err(|locked| locked.error(path.as_str()))?;
        let content = std::str::from_utf8(&content).map(|text| Zeroizing::new(text.to_string()));
        let content =
            content.map_err(|_| Error::new(Kind::Config, format!("`{path}`: the secret `{name}` is not text")))?;
        Ok((name.to_string(), content))
    });
    opened.collect()
}

/// Does something with the identities there are.
pub(super) fn with_identities<T>(call: &Call, work: impl FnOnce(&Identities<'_>) -> Result<T>) -> Result<T> {
    let prompt: Passphrases = wire::passphrases(call.common);
    work(&Identities::new(wire::world(call.common, &prompt)))
}
