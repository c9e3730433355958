//! From a repository to what a run works on: the stages source and load.

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::Problems;
use crate::base::error::Result;
use crate::load::{self, Config, Secrets};
use crate::source::{self, Place, Spec, Tree};

/// A repository, loaded.
pub struct Repository {
    /// Where it came from: label, commit, what is not committed. Its files have moved into `config`.
    pub tree: Tree,
    /// What it says.
    pub config: Config,
    /// Warnings.
    pub warnings: Problems,
    /// Its directory, where it is a work tree: relative root directories start from there.
    pub directory: Option<Utf8PathBuf>,
}

/// Opens and loads the repository that `spec` names.
pub fn open(spec: &Spec, secrets: Secrets) -> Result<Repository> {
    let tree = source::open(spec, &source::default_cache())?;
    let directory = match &spec.place {
        Place::Directory(directory) => Some(directory.clone()),
        Place::Url(_) => None,
    };
    load_tree(tree, directory, secrets)
}

/// Loads a tree.
pub fn load_tree(tree: Tree, directory: Option<Utf8PathBuf>, secrets: Secrets) -> Result<Repository> {
    let environment = |name: &str| std::env::var(name).ok();
    let read_outside = |path: &Utf8Path| std::fs::read(path);
    let (config, mut warnings) = load::load(&tree.files, &environment, &read_outside, secrets)?;
    warnings.extend(tree.problems.clone());
    Ok(Repository { tree, config, warnings, directory })
}
