//! `reconcile secret`: the secrets that are encrypted in the repository.

mod edit;
mod encrypt;
mod init;
mod private;
mod rekey;
mod repository;
mod view;

use serde_json::{Value, json};

use crate::base::error::Result;
use crate::cli::Call;
use crate::cli::args::Secret;
use crate::cli::page::Page;

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

/// Tells how a command went: as a page, or with its fields as JSON.
fn tell(call: &Call, page: &Page, command: &str, fields: Value) {
    if call.common.json {
        call.screen.show_json(&answer(command, fields));
    } else {
        call.screen.show(page);
    }
}

/// The JSON of a command: its fields, after what all JSON of the program begins with.
fn answer(command: &str, mut fields: Value) -> Value {
    let mut answer = json!({ "version": 1, "command": format!("secret {command}") });
    if let (Some(answer), Some(fields)) = (answer.as_object_mut(), fields.as_object_mut()) {
        answer.append(fields);
    }
    answer
}
