//! What is encrypted in the repository: age files, files of several named secrets, and values of SOPS.
//!
//! Three forms, told apart by what is in a file, never by its name:
//!
//! * **one secret**: an age file, armored or not, with any bytes in it;
//! * **named secrets**: a YAML file with names in clear, each with an armored age file as its value. So a diff shows
//!   which secret changed, `check` knows the names without any key, and an edit leaves what it did not touch as it was;
//! * **SOPS**: YAML or JSON with single values encrypted. These files are read, never written.
//!
//! What is encrypted here is for the recipients of one file, [`RECIPIENTS`].

pub mod header;
pub mod identity;
pub mod named;
pub mod recipients;
pub mod sops;
mod sops_rules;
pub mod sops_value;

use crate::base::error::{Error, Kind};

pub use identity::{Identities, World};
pub use recipients::Recipients;

/// The file that says whom secrets are encrypted for.
pub const RECIPIENTS: &str = "secrets/recipients";

/// Why something encrypted could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// It is not what it should be. The reason, as the end of a sentence that begins with the file.
    Damaged(String),
    /// None of our identities fits.
    NoIdentity {
        /// Whom it is encrypted for, as far as that can be seen.
        needed: Vec<String>,
        /// Where identities were looked for, and what was found.
        looked: Vec<String>,
    },
}

impl Locked {
    /// What to say after the name of the file.
    pub fn why(&self) -> String {
        match self {
            Locked::Damaged(why) => why.clone(),
            Locked::NoIdentity { needed, .. } => {
                format!("cannot be decrypted: no identity fits. It is for {}", needed.join(", "))
            }
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Locked::Damaged(_) => "take it from an earlier commit, or encrypt the secret anew".into(),
            Locked::NoIdentity { looked, .. } => format!(
                "name an identity by --identity FILE or RECONCILE_AGE_IDENTITY_FILE, or have your recipient added to \
                 `{RECIPIENTS}` and `reconcile secret rekey` run by somebody who can. Looked at: {}",
                looked.join("; ")
            ),
        }
    }

    /// The error for the file called `name`.
    pub fn error(&self, name: &str) -> Error {
        Error::new(Kind::Config, format!("`{name}` {}", self.why())).hint(self.hint())
    }
}

#[cfg(test)]
mod tests;
