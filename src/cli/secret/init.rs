//! `reconcile secret init`: an identity of one's own, and its recipient in the list.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use camino::Utf8Path;
use serde_json::json;

use crate::base::error::{Error, Kind, Result};
use crate::cli::page::Page;
use crate::cli::secret::repository::Repository;
use crate::cli::secret::tell;
use crate::cli::{Call, wire};
use crate::sealed::{RECIPIENTS, identity};

/// How the list of recipients begins.
const LIST: &str = "# Those who can decrypt this repository's secrets, one a line: age1…, ssh-ed25519 … or ssh-rsa …\n\
                    # After a change: reconcile secret rekey\n";

/// Runs the command.
pub(super) fn run(call: &Call, to: Option<&Utf8Path>) -> Result<u8> {
    let repository = Repository::open(call)?;
    let prompt = wire::passphrases(call.common);
    let place = to.map_or_else(|| wire::world(call.common, &prompt).own_identity(), Utf8Path::to_owned);
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => already(&place),
        _ => Error::new(Kind::Usage, format!("the identity {place} cannot be written")).because(cause),
    };
    if place.exists() {
        return Err(already(&place));
    }
    let list = repository.read(Utf8Path::new(RECIPIENTS))?;
    if list.is_some() {
        // A list with mistakes is not made longer.
        repository.recipients()?;
    }
    let (public, text) = identity::generate();
    if let Some(folder) = place.parent().filter(|folder| *folder != "" && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let mut list = list.map_or_else(|| LIST.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    if !list.ends_with('\n') {
        list.push('\n');
    }
    list.push_str(&public);
    list.push('\n');
    if let Err(error) = repository.write(Utf8Path::new(RECIPIENTS), list.as_bytes()) {
        // An identity that nothing is encrypted for would only stand in the way of the next try.
        let _ = fs::remove_file(&place);
        return Err(error);
    }
    let mut page = Page::new();
    page.line(&format!("identity: {place} (keep a copy in a safe place: without it, secrets are lost)"));
    page.line(&format!("recipient: {public}, now in {RECIPIENTS}"));
    page.line("commit the list; if there are secrets already, somebody who can read them runs: reconcile secret rekey");
    let fields = json!({ "identity": place, "recipient": public, "list": RECIPIENTS });
    tell(call, &page, "init", fields);
    Ok(0)
}

fn already(place: &Utf8Path) -> Error {
    let public = fs::read_to_string(place).ok().and_then(|text| identity::public(&text).ok());
    let error = Error::new(Kind::Usage, format!("the identity {place} is there already, and is never overwritten"));
    match public {
        Some(public) => {
            error.hint(format!("its recipient is {public}: put that into {RECIPIENTS}, or name another file by --to"))
        }
        None => error.hint("name another file by --to"),
    }
}
