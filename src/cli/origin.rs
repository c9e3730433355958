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
    /// How the command line chose a part of it, and took things over: `--host web-1 --adopt file:/etc/motd`.
    #[serde(skip)]
    pub chosen: Vec<String>,
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
        let verb = self.before.as_ref().map_or_else(|| "apply".into(), |run| format!("rollback {run}"));
        let words = self.chosen.iter().map(|word| quoted(word));
        [verb].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    /// `infra@4f2c91d`.
    pub fn short(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{}@{}", self.repo, commit.chars().take(7).collect::<String>()),
            None => self.repo.clone(),
        }
    }
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_said_again() {
        let chosen = ["--host", "web-1", "--adopt", "file:/srv/it's here"].map(String::from).to_vec();
        let origin = Origin { chosen, ..Origin::default() };
        assert_eq!(origin.command(), r"apply --host web-1 --adopt 'file:/srv/it'\''s here'");
        assert_eq!(Origin { before: Some("7".into()), ..Origin::default() }.command(), "rollback 7");
    }
}
