//! Where the wanted state comes from: the repository and its commit.

use serde::Serialize;

/// The repository and the commit that a run is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The repository's id.
    pub repo: String,
    /// The full name of the commit; `None` for files that are in no commit.
    pub commit: Option<String>,
    /// The branch or tag.
    pub branch: Option<String>,
    /// Whose good signature the commit bears.
    pub signer: Option<String>,
    /// How many files differ from the commit.
    pub dirty: usize,
}

impl Origin {
    /// `infra@4f2c91d main, signed by alice`.
    pub fn words(&self) -> String {
        let mut words = self.short();
        if let Some(branch) = &self.branch {
            words.push(' ');
            words.push_str(branch);
        }
        let standing = match (&self.commit, self.dirty, &self.signer) {
            (None, _, _) => "no commit".to_string(),
            (_, 0, Some(signer)) => format!("signed by {signer}"),
            (_, 0, None) => "not signed".into(),
            (_, 1, _) => "dirty: 1 file changed".into(),
            (_, files, _) => format!("dirty: {files} files changed"),
        };
        format!("{words}, {standing}")
    }

    /// `infra@4f2c91d`.
    pub fn short(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{}@{}", self.repo, commit.chars().take(7).collect::<String>()),
            None => self.repo.clone(),
        }
    }
}
