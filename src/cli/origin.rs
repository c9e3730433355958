//! Where the wanted state comes from: the repository and its commit.

use serde::Serialize;

/// The repository and the commit that a run is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The repository's id.
    pub repo: String,
    /// Its directory or URL, without a password.
    pub location: String,
    /// The full name of the commit; `None` for files that are in no commit.
    pub commit: Option<String>,
    /// The branch or tag.
    pub branch: Option<String>,
    /// Who wrote the commit, as it claims.
    pub author: Option<String>,
    /// Whose good signature the commit bears.
    pub signer: Option<String>,
    /// How many files differ from the commit.
    pub dirty: usize,
    /// A rollback: the run before which this was the wanted state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl Origin {
    /// `infra@4f2c91d main, signed by alice`; of a rollback `back to infra@4f2c91d (before run 118), signed by alice`.
    pub fn words(&self) -> String {
        let mut words = match &self.before {
            Some(run) => format!("back to {} (before run {run})", self.short()),
            None => self.short(),
        };
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

    /// What to call to apply exactly this.
    pub fn command(&self) -> String {
        self.before.as_ref().map_or_else(|| "apply".into(), |run| format!("rollback {run}"))
    }

    /// `infra@4f2c91d`.
    pub fn short(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{}@{}", self.repo, commit.chars().take(7).collect::<String>()),
            None => self.repo.clone(),
        }
    }
}
