//! `reconcile secret edit`: secrets in the person's own editor. What they did not change stays byte for byte as it is.

use std::process::Command;

use camino::Utf8Path;
use serde_json::json;
use zeroize::Zeroizing;

use crate::base::error::{Error, Kind, Result};
use crate::cli::page::{CHANGE, PLAIN, Page};
use crate::cli::secret::private::Private;
use crate::cli::secret::rekey::sealed;
use crate::cli::secret::repository::{Form, Repository, opened, with_identities, wrong_file};
use crate::cli::secret::tell;
use crate::cli::{Call, ask};
use crate::sealed::Recipients;
use crate::sealed::named::{Named, Wrong};

/// Runs the command.
pub(super) fn run(call: &Call, file: &Utf8Path) -> Result<u8> {
    let repository = Repository::open(call)?;
    let path = repository.path(file)?;
    let recipients = repository.recipients()?;
    let before = repository.read(&path)?;
    let changed = match before.as_deref().map(|bytes| Form::of(&path, bytes)).transpose()? {
        Some(Form::Single { armored }) => {
            single(call, &path, before.as_deref().unwrap_or_default(), armored, &recipients)?
        }
        Some(Form::Named(file)) => named(call, &path, &file, &recipients)?,
        // Names in clear are what the ending promises.
        None if is_yaml(&path) => named(call, &path, &Named::empty(), &recipients)?,
        None => single(call, &path, &[], true, &recipients)?,
    };
    if let Some(content) = &changed {
        repository.write(&path, content)?;
    }
    let mut page = Page::new();
    page.line(&format!("{}: {path}", if changed.is_some() { "encrypted" } else { "unchanged" }));
    tell(call, &page, "edit", json!({ "file": path, "changed": changed.is_some() }));
    Ok(0)
}

fn is_yaml(path: &Utf8Path) -> bool {
    matches!(path.extension(), Some("yaml" | "yml"))
}

fn single(
    call: &Call,
    path: &Utf8Path,
    bytes: &[u8],
    armored: bool,
    recipients: &Recipients,
) -> Result<Option<Vec<u8>>> {
    let before = match bytes {
        [] => Zeroizing::new(Vec::new()),
        bytes => with_identities(call, |keys| keys.open(bytes).map_err(|locked| locked.error(path.as_str())))?,
    };
    let private = Private::new(path.file_stem().unwrap_or("secret"), &before)?;
    start_editor(&private)?;
    let after = private.read()?;
    if after == before {
        return Ok(None);
    }
    if after.is_empty() {
        return Err(Error::new(Kind::Usage, "the secret is empty now: nothing was written"));
    }
    recipients.encrypt(&after, armored).map(Some)
}

fn named(call: &Call, path: &Utf8Path, file: &Named, recipients: &Recipients) -> Result<Option<Vec<u8>>> {
    let before = with_identities(call, |identities| opened(path, file, identities))?;
    let value_of = |name: &str| before.iter().find(|(other, _)| other == name).map(|(_, value)| value);
    let clear = file.map(|name| Ok::<_, Error>(value_of(name).cloned()))?.text();
    let private = Private::new(path.file_name().unwrap_or("secrets.yaml"), clear.as_bytes())?;
    loop {
        start_editor(&private)?;
        let after = private.read()?;
        if after.as_slice() == clear.as_bytes() {
            return Ok(None);
        }
        let (text, read) = understood(&after);
        let (mut edited, values) = match read {
            Ok(read) => read,
            Err(wrong) => {
                let error = wrong_file(path, &text, &wrong);
                call.screen.say_problems(&error.problems);
                if ask::is_somebody_there(call.common.no_input) && ask::confirm(call.screen, "Back to the editor?") {
                    continue;
                }
                return Err(Error::new(Kind::Usage, "the secrets cannot be read as they are now: nothing was written"));
            }
        };
        // What is as it was keeps its bytes; only the rest is encrypted anew.
        let new: Vec<(String, Zeroizing<String>)> = values
            .into_iter()
            .filter(|(name, value)| value_of(name) != Some(value) || !edited.take_entry(name, file))
            .collect();
        say_gone(call, &before, &edited);
        return sealed(&edited, &new, recipients).map(|text| Some(text.into_bytes()));
    }
}

/// An edited file with its values, or what is wrong with it; and its text.
type Understood = Result<(Named, Vec<(String, Zeroizing<String>)>), Wrong>;

fn understood(bytes: &[u8]) -> (Zeroizing<String>, Understood) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let wrong = Wrong { line: 0, what: "this is not UTF-8".into() };
        return (Zeroizing::new(String::new()), Err(wrong));
    };
    let read = Named::parse(text).and_then(|file| {
        let values = file.values()?.into_iter().map(|(name, value, _)| (name.to_string(), value)).collect();
        Ok((file, values))
    });
    (Zeroizing::new(text.to_string()), read)
}

/// Says which secrets are gone: somebody may still use them.
fn say_gone(call: &Call, before: &[(String, Zeroizing<String>)], after: &Named) {
    let names: Vec<&str> = after.names().collect();
    for (name, _) in before.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
        let mut page = Page::new();
        page.put(CHANGE, "note: ").put(PLAIN, &format!("the secret {name} is gone")).end();
        call.screen.say(&page);
    }
}

/// Runs the editor that the person has chosen, as Git does: what they chose may have arguments.
fn start_editor(private: &Private) -> Result<()> {
    let chosen = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let editor = chosen.into_iter().find(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".into());
    let failed = |why: String| {
        Error::new(Kind::Usage, format!("the editor `{editor}` {why}: nothing was written"))
            .hint("choose another one by VISUAL or EDITOR")
    };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{editor} \"$1\""), "editor", private.path().as_str()]);
    let ended = private.wait(&mut command).map_err(|error| failed(format!("cannot be started ({error})")))?;
    if ended.success() { Ok(()) } else { Err(failed(format!("ended with {ended}"))) }
}
