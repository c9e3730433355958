//! Repositories on this machine: work trees, revisions, and what is said about a commit.

use camino::{Utf8Path, Utf8PathBuf};
use git2::{ErrorCode, Repository, StatusOptions};
use jiff::Timestamp;

use crate::base::error::{Error, Kind, Result};
use crate::source::signature::{self, Signature};
use crate::source::tree::{self, AREAS, Tree};
use crate::source::view::{Disk, Ignoring, InGit};

/// What is known about a commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Commit {
    /// The full id, in hexadecimal.
    pub id: String,
    /// As much of the id as makes it unique here.
    pub short: String,
    /// The branch, where it was reached by one.
    pub branch: Option<String>,
    /// Who wrote it: `Name <email>`. Anybody can claim this; see `signature`.
    pub author: String,
    /// When it was made.
    pub time: Timestamp,
    /// The first line of its message.
    pub summary: String,
    /// Who signed it.
    pub signature: Signature,
}

/// How a work tree differs from its commit, in what is read of it. Paths are relative to its root.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dirty {
    /// Tracked files that were changed, added or deleted.
    pub tracked: Vec<Utf8PathBuf>,
    /// Files that Git does not know and does not ignore.
    pub untracked: Vec<Utf8PathBuf>,
}

impl Dirty {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.tracked.is_empty() && self.untracked.is_empty()
    }
}

/// The files of `directory` as they lie on disk, with the commit they are based on, if any.
pub fn work_tree(directory: &Utf8Path) -> Result<Tree> {
    if !directory.is_dir() {
        return Err(Error::new(Kind::Usage, format!("there is no directory {directory}")));
    }
    let Some(local) = Local::discover(directory)? else { return unversioned(directory) };
    if local.repository.is_bare() {
        return local.at("HEAD", directory.as_str());
    }
    let git = Ignoring { repository: &local.repository, prefix: &local.prefix };
    // A scratch directory that the repository around it ignores is not part of that repository.
    if !local.prefix.as_str().is_empty() && git.ignores(Utf8Path::new("")) {
        return unversioned(directory);
    }
    let (files, problems) = tree::read(&Disk::new(directory, Some(git)))?;
    let commit = match local.repository.head() {
        Ok(head) => {
            let commit = head.peel_to_commit().map_err(|cause| broken(directory, cause))?;
            let branch = if head.is_branch() { head.shorthand().ok().map(Into::into) } else { None };
            Some(describe(&local.repository, &commit, branch)?)
        }
        Err(cause) if matches!(cause.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => None,
        Err(cause) => return Err(broken(directory, cause)),
    };
    let dirty = local.dirty().map_err(|cause| broken(directory, cause))?;
    Ok(Tree { root_label: directory.to_string(), files, problems, commit, dirty })
}

fn unversioned(directory: &Utf8Path) -> Result<Tree> {
    let (files, problems) = tree::read(&Disk::new(directory, None))?;
    Ok(Tree { root_label: directory.to_string(), files, problems, commit: None, dirty: Dirty::default() })
}

/// A repository on this machine, seen from a directory in its work tree.
pub struct Local {
    /// The repository.
    pub repository: Repository,
    /// The directory, relative to the work tree.
    prefix: Utf8PathBuf,
}

impl Local {
    /// The repository that `directory` is in; that there is none is an error.
    pub fn open(directory: &Utf8Path) -> Result<Self> {
        Local::discover(directory)?.ok_or_else(|| {
            Error::new(Kind::Usage, format!("{directory} is not in a Git repository"))
                .hint("a revision can only be read from Git; without @REV the directory is read as it is")
        })
    }

    /// A repository that is looked at as a whole.
    pub fn whole(repository: Repository) -> Self {
        Local { repository, prefix: Utf8PathBuf::new() }
    }

    fn discover(directory: &Utf8Path) -> Result<Option<Self>> {
        let repository = match Repository::discover(directory) {
            Ok(repository) => repository,
            Err(cause) if cause.code() == ErrorCode::NotFound => return Ok(None),
            Err(cause) => return Err(broken(directory, cause)),
        };
        let prefix = match repository.workdir() {
            None => Utf8PathBuf::new(),
            Some(top) => relative(directory, top)?,
        };
        Ok(Some(Local { repository, prefix }))
    }

    /// The tree of a revision, called `label`.
    pub fn at(&self, revision: &str, label: &str) -> Result<Tree> {
        let found = self.repository.revparse_ext(revision).and_then(|(object, reference)| {
            let branch = reference
                .and_then(|reference| reference.resolve().ok())
                .filter(git2::Reference::is_branch)
                .and_then(|reference| reference.shorthand().ok().map(Into::into));
            Ok((object.peel_to_commit()?, branch))
        });
        let (commit, branch) = found.map_err(|cause| unknown_revision(revision, label, &cause))?;
        self.at_commit(&commit, branch, label)
    }

    /// The tree of a commit that was reached by `branch`.
    pub fn at_commit(&self, commit: &git2::Commit<'_>, branch: Option<String>, label: &str) -> Result<Tree> {
        let lost = |cause| broken(Utf8Path::new(label), cause);
        let mut root = commit.tree().map_err(lost)?;
        if !self.prefix.as_str().is_empty() {
            let entry = root.get_path(self.prefix.as_std_path()).map_err(|cause| {
                let what = format!("{} is not in commit {:.10}", self.prefix, commit.id().to_string());
                Error::new(Kind::Usage, what).because(cause)
            })?;
            root = self.repository.find_tree(entry.id()).map_err(lost)?;
        }
        let (files, problems) = tree::read(&InGit::new(&self.repository, root))?;
        let commit = Some(describe(&self.repository, commit, branch)?);
        Ok(Tree { root_label: label.to_string(), files, problems, commit, dirty: Dirty::default() })
    }

    fn dirty(&self) -> Result<Dirty, git2::Error> {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).disable_pathspec_match(true);
        for area in AREAS {
            options.pathspec(self.prefix.join(area).as_std_path());
        }
        let mut dirty = Dirty::default();
        for status in self.repository.statuses(Some(&mut options))?.iter() {
            let path = String::from_utf8_lossy(status.path_bytes()).into_owned();
            let path = Utf8Path::new(&path);
            let path = path.strip_prefix(&self.prefix).unwrap_or(path).to_path_buf();
            if status.status().is_wt_new() {
                dirty.untracked.push(path);
            } else if !status.status().is_ignored() {
                dirty.tracked.push(path);
            }
        }
        Ok(dirty)
    }
}

/// `directory` relative to `top`, both without links.
fn relative(directory: &Utf8Path, top: &std::path::Path) -> Result<Utf8PathBuf> {
    let failed = |cause| Error::new(Kind::Usage, format!("cannot read {directory}")).because(cause);
    let directory = directory.as_std_path().canonicalize().map_err(failed)?;
    let top = top.canonicalize().map_err(failed)?;
    let below = directory.strip_prefix(&top).unwrap_or(std::path::Path::new(""));
    Utf8PathBuf::from_path_buf(below.to_path_buf())
        .map_err(|path| Error::new(Kind::Usage, format!("the path {} is not UTF-8", path.display())))
}

fn describe(repository: &Repository, commit: &git2::Commit<'_>, branch: Option<String>) -> Result<Commit> {
    let id = commit.id().to_string();
    let short = commit.as_object().short_id().ok().and_then(|short| short.as_str().ok().map(Into::into));
    let author = commit.author();
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seconds = commit.time().seconds();
    let time = Timestamp::from_second(seconds)
        .map_err(|cause| Error::new(Kind::Config, format!("commit {id} has no sensible time")).because(cause))?;
    Ok(Commit {
        short: short.unwrap_or_else(|| id.chars().take(10).collect()),
        branch,
        author: format!("{} <{}>", lossy(author.name_bytes()), lossy(author.email_bytes())),
        time,
        summary: lossy(commit.summary_bytes().unwrap_or_default()),
        signature: signature::of(repository, commit.id(), time),
        id,
    })
}

/// The error of a revision that is not there.
pub fn unknown_revision(revision: &str, label: &str, cause: &git2::Error) -> Error {
    let place = label.strip_suffix(&format!("@{revision}")).unwrap_or(label);
    let error = Error::new(Kind::Usage, format!("there is no revision `{revision}` in {place}"));
    let error = error.hint("a revision is a branch, a tag, a commit, or whatever else `git rev-parse` knows");
    if cause.code() == ErrorCode::NotFound { error } else { error.because(cause.message().to_string()) }
}

fn broken(directory: &Utf8Path, cause: git2::Error) -> Error {
    let error = Error::new(Kind::Usage, format!("the Git repository of {directory} cannot be read"));
    let error = match cause.code() {
        ErrorCode::Owner => error.hint(format!(
            "it belongs to another user; if you trust it: git config --global --add safe.directory {directory}"
        )),
        _ => error.hint("what does `git status` say there?"),
    };
    error.because(cause)
}
