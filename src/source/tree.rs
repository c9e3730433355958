//! Reading a tree: which files belong to it, where links lead, and how much is too much.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Problem, Problems};
use crate::base::error::{Error, Kind, Result};
use crate::source::git::{Commit, Dirty};
use crate::source::view::{Entry, View};

/// What is read of a repository. The rest is nobody's business here, unless a link leads to it.
pub const AREAS: [&str; 5] = ["hosts", "reconcile.kdl", "secrets", "stacks", "templates"];
/// How large one file may be.
pub const MAX_FILE: u64 = 8 << 20;
/// How many files a tree may have.
pub const MAX_FILES: usize = 20_000;
/// How deep directories may nest.
const MAX_DEPTH: usize = 64;
/// How many links one path may lead through: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Files by their path in the repository.
pub type Files = BTreeMap<Utf8PathBuf, Arc<[u8]>>;

/// The files of a repository at one revision, or as they lie on disk.
#[derive(Debug)]
pub struct Tree {
    /// The repository and revision, for people.
    pub root_label: String,
    /// Regular files by their path in the repository. What a symbolic link leads to stands at the link's path.
    pub files: Files,
    /// Links that lead nowhere or out of the repository, submodules, and the like.
    pub problems: Problems,
    /// The commit, where the repository is in Git and has one.
    pub commit: Option<Commit>,
    /// What differs from the commit. Nothing for a revision.
    pub dirty: Dirty,
}

/// Files and problems of a view, within [`AREAS`].
pub fn read(view: &dyn View) -> Result<(Files, Problems)> {
    let mut walk = Walk { view, files: BTreeMap::new(), problems: Problems::default(), above: Vec::new() };
    let present = view.list(Utf8Path::new(""))?;
    for name in AREAS.iter().filter(|area| present.iter().any(|name| name == *area)) {
        walk.visit(Utf8Path::new(name), Utf8Path::new(name))?;
    }
    Ok((walk.files, walk.problems))
}

struct Walk<'a> {
    view: &'a dyn View,
    files: Files,
    problems: Problems,
    /// The real directories that we are in.
    above: Vec<Utf8PathBuf>,
}

impl Walk<'_> {
    /// Reads what is at `real`, under the name of `path`.
    fn visit(&mut self, path: &Utf8Path, real: &Utf8Path) -> Result<()> {
        match self.view.entry(real)? {
            Some(Entry::File) => self.file(path, real),
            Some(Entry::Directory) => self.directory(path, real),
            Some(Entry::Link) => match self.follow(real)? {
                Ok(target) => self.visit(path, &target),
                Err(why) => {
                    let problem = Problem::error(format!("the symbolic link {path} {why}"));
                    self.problems
                        .push(problem.hint("links are followed where they lead to something in the repository"));
                    Ok(())
                }
            },
            Some(Entry::Other) => {
                self.problems.push(Problem::warning(format!("{path} is no file and no directory, and is passed over")));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&mut self, path: &Utf8Path, real: &Utf8Path) -> Result<()> {
        if self.files.len() >= MAX_FILES {
            return Err(Error::new(Kind::Config, format!("more than {MAX_FILES} files in {}", AREAS.join(", ")))
                .hint("is something here that Git should ignore?"));
        }
        let bytes = self.view.read(real)?;
        self.files.insert(path.to_path_buf(), bytes.into());
        Ok(())
    }

    fn directory(&mut self, path: &Utf8Path, real: &Utf8Path) -> Result<()> {
        if self.above.iter().any(|above| above == real) {
            self.problems.push(Problem::error(format!("the symbolic link {path} leads to a directory that it is in")));
            return Ok(());
        }
        if self.above.len() >= MAX_DEPTH {
            return Err(Error::new(Kind::Config, format!("directories nest deeper than {MAX_DEPTH} at {path}")));
        }
        self.above.push(real.to_path_buf());
        for name in self.view.list(real)? {
            self.visit(&path.join(&name), &real.join(&name))?;
        }
        self.above.pop();
        Ok(())
    }

    /// The path without links that the link at `link` leads to, or why it leads to none.
    fn follow(&self, link: &Utf8Path) -> Result<Result<Utf8PathBuf, String>> {
        let mut ahead: VecDeque<String> = link.as_str().split('/').map(Into::into).collect();
        let mut real = Utf8PathBuf::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    if !real.pop() {
                        return Ok(Err("leads out of the repository".into()));
                    }
                    continue;
                }
                name => real.push(name),
            }
            match self.view.entry(&real)? {
                None => return Ok(Err(format!("leads to {real}, which is not there"))),
                Some(Entry::Link) => {
                    links += 1;
                    let target = self.view.link(&real)?;
                    if links > MAX_LINKS {
                        return Ok(Err("leads back to itself".into()));
                    }
                    if target.starts_with('/') {
                        return Ok(Err(format!("leads out of the repository, to {target}")));
                    }
                    real.pop();
                    target.split('/').rev().for_each(|name| ahead.push_front(name.into()));
                }
                Some(_) => {}
            }
        }
        if real.components().any(|part| part.as_str() == ".git") {
            return Ok(Err("leads into .git".into()));
        }
        Ok(Ok(real))
    }
}
