//! `reconcile secret`: the secrets that are encrypted in the repository.

mod edit;
mod encrypt;
mod init;
mod private;
mod rekey;
mod repository;
mod view;

use crate::base::error::Result;
use crate::cli::Call;
use crate::cli::args::Secret;

/// Runs the command.
pub fn run(call: &Call, action: &Secret) -> Result<u8> {
    match action {
        Secret::Init { to } => init::run(call, to.as_deref()),
        Secret::Encrypt { file, name, from } => encrypt::run(call, file, name.as_deref(), from.as_deref()),
        Secret::Edit { file } => edit::run(call, file),
        Secret::View { file, name } => view::run(call, file, name.as_deref()),
        Secret::Rekey => rekey::run(call),
    }
}
