//! A tree of files seen from its root, on disk or in Git, as little as reading it needs.

use camino::{Utf8Path, Utf8PathBuf};
use git2::{ObjectType, Repository};

use crate::base::error::{Error, Kind, Result};
use crate::source::tree::MAX_FILE;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A submodule, a socket, and the like.
    Other,
}

/// A tree of files. Paths are relative to its root and have no links in them, but for the last component.
pub trait View {
    /// What stands at `path`, if anything.
    fn entry(&self, path: &Utf8Path) -> Result<Option<Entry>>;
    /// The names in a directory, without what Git ignores.
    fn list(&self, directory: &Utf8Path) -> Result<Vec<String>>;
    /// The content of a file.
    fn read(&self, file: &Utf8Path) -> Result<Vec<u8>>;
    /// What a link says.
    fn link(&self, link: &Utf8Path) -> Result<String>;
}

fn not_utf8(bytes: &[u8]) -> Error {
    Error::new(Kind::Config, format!("the file name `{}` is not UTF-8", String::from_utf8_lossy(bytes)))
        .hint("rename it; reconcile only reads names that are UTF-8")
}

fn too_large(path: &Utf8Path, size: u64) -> Error {
    let mega = |bytes: u64| bytes / (1 << 20);
    Error::new(Kind::Config, format!("{path} has {} MB; files may have {} MB", mega(size), mega(MAX_FILE)))
        .hint("large files belong into an image or a package, not into the repository")
}

/// Files on disk.
pub struct Disk<'a> {
    root: &'a Utf8Path,
    git: Option<Ignoring<'a>>,
}

/// A repository that says what to ignore.
pub struct Ignoring<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The root of the view, relative to the repository's work tree.
    pub prefix: &'a Utf8Path,
}

impl Ignoring<'_> {
    /// Whether Git ignores this path, and tracks nothing at or below it.
    pub fn ignores(&self, path: &Utf8Path) -> bool {
        let path = self.prefix.join(path);
        if !self.repository.is_path_ignored(&path).unwrap_or(false) {
            return false;
        }
        let Ok(index) = self.repository.index() else { return true };
        let below = format!("{path}/");
        index.get_path(path.as_std_path(), 0).is_none() && index.find_prefix(&below).is_err()
    }
}

impl<'a> Disk<'a> {
    /// The directory `root`, without what `git` ignores.
    pub fn new(root: &'a Utf8Path, git: Option<Ignoring<'a>>) -> Self {
        Disk { root, git }
    }

    fn failed(path: &Utf8Path, cause: std::io::Error) -> Error {
        Error::new(Kind::Config, format!("cannot read {path}")).because(cause)
    }
}

impl View for Disk<'_> {
    fn entry(&self, path: &Utf8Path) -> Result<Option<Entry>> {
        match self.root.join(path).symlink_metadata() {
            Ok(found) if found.is_symlink() => Ok(Some(Entry::Link)),
            Ok(found) if found.is_dir() => Ok(Some(Entry::Directory)),
            Ok(found) if found.is_file() => Ok(Some(Entry::File)),
            Ok(_) => Ok(Some(Entry::Other)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(cause) => Err(Disk::failed(path, cause)),
        }
    }

    fn list(&self, directory: &Utf8Path) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.root.join(directory)).map_err(|cause| Disk::failed(directory, cause))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|cause| Disk::failed(directory, cause))?.file_name();
            let name = name.into_string().map_err(|name| {
                not_utf8([directory.as_str().as_bytes(), b"/", name.as_encoded_bytes()].concat().as_slice())
            })?;
            let ignored = self.git.as_ref().is_some_and(|git| git.ignores(&directory.join(&name)));
            if name != ".git" && !ignored {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, file: &Utf8Path) -> Result<Vec<u8>> {
        let path = self.root.join(file);
        let size = path.metadata().map_err(|cause| Disk::failed(file, cause))?.len();
        if size > MAX_FILE {
            return Err(too_large(file, size));
        }
        std::fs::read(path).map_err(|cause| Disk::failed(file, cause))
    }

    fn link(&self, link: &Utf8Path) -> Result<String> {
        let target = std::fs::read_link(self.root.join(link)).map_err(|cause| Disk::failed(link, cause))?;
        Utf8PathBuf::from_path_buf(target)
            .map(Utf8PathBuf::into_string)
            .map_err(|target| not_utf8(target.as_os_str().as_encoded_bytes()))
    }
}

/// The tree of a commit.
pub struct InGit<'a> {
    repository: &'a Repository,
    root: git2::Tree<'a>,
}

impl<'a> InGit<'a> {
    /// This tree of this repository.
    pub fn new(repository: &'a Repository, root: git2::Tree<'a>) -> Self {
        InGit { repository, root }
    }

    fn broken(path: &Utf8Path, cause: git2::Error) -> Error {
        Error::new(Kind::Config, format!("Git cannot read {path}")).because(cause)
    }

    fn object(&self, path: &Utf8Path) -> Result<git2::Object<'a>> {
        if path.as_str().is_empty() {
            return Ok(self.root.as_object().clone());
        }
        let found = self.root.get_path(path.as_std_path()).and_then(|entry| entry.to_object(self.repository));
        found.map_err(|cause| InGit::broken(path, cause))
    }

    fn blob(&self, path: &Utf8Path) -> Result<Vec<u8>> {
        let found = self.root.get_path(path.as_std_path()).map_err(|cause| InGit::broken(path, cause))?;
        let odb = self.repository.odb().map_err(|cause| InGit::broken(path, cause))?;
        // Its size is known before it is unpacked.
        let (size, _) = odb.read_header(found.id()).map_err(|cause| InGit::broken(path, cause))?;
        if size as u64 > MAX_FILE {
            return Err(too_large(path, size as u64));
        }
        let object = self.object(path)?;
        Ok(object.as_blob().map(|blob| blob.content().to_vec()).unwrap_or_default())
    }
}

impl View for InGit<'_> {
    fn entry(&self, path: &Utf8Path) -> Result<Option<Entry>> {
        if path.as_str().is_empty() {
            return Ok(Some(Entry::Directory));
        }
        match self.root.get_path(path.as_std_path()) {
            Ok(found) => Ok(Some(match (found.kind(), found.filemode()) {
                (Some(ObjectType::Tree), _) => Entry::Directory,
                (Some(ObjectType::Blob), 0o120_000) => Entry::Link,
                (Some(ObjectType::Blob), _) => Entry::File,
                _ => Entry::Other,
            })),
            Err(cause) if cause.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(cause) => Err(InGit::broken(path, cause)),
        }
    }

    fn list(&self, directory: &Utf8Path) -> Result<Vec<String>> {
        let object = self.object(directory)?;
        let Some(tree) = object.as_tree() else { return Ok(Vec::new()) };
        let name = |entry: git2::TreeEntry<'_>| {
            String::from_utf8(entry.name_bytes().to_vec())
                .map_err(|name| not_utf8([directory.as_str().as_bytes(), b"/", name.as_bytes()].concat().as_slice()))
        };
        tree.iter().map(name).collect()
    }

    fn read(&self, file: &Utf8Path) -> Result<Vec<u8>> {
        self.blob(file)
    }

    fn link(&self, link: &Utf8Path) -> Result<String> {
        String::from_utf8(self.blob(link)?).map_err(|target| not_utf8(target.as_bytes()))
    }
}
