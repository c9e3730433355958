//! `reconcile secret rekey`: everything is encrypted anew for those who are recipients now. All files are decrypted and
//! written beside their places first: what cannot be read leaves everything as it was.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use zeroize::Zeroizing;

use crate::base::error::{Error, Result};
use crate::cli::page::{Page, count};
use crate::cli::secret::repository::{Form, Repository, opened, with_identities};
use crate::cli::secret::tell;
use crate::cli::{Call, wire};
use crate::load::sealed::is_sops;
use crate::load::{Sealed, Secrets};
use crate::sealed::header::is_age;
use crate::sealed::named::is_sealed;
use crate::sealed::{Identities, RECIPIENTS, Recipients};
use crate::source;

/// Runs the command.
pub(super) fn run(call: &Call) -> Result<u8> {
    let repository = Repository::open(call)?;
    let recipients = repository.recipients()?;
    let files = files(call)?;
    let (ours, of_sops): (BTreeMap<_, _>, BTreeMap<_, _>) =
        files.into_iter().partition(|(_, form)| *form != Sealed::Sops);
    let mut prepared = Vec::new();
    with_identities(call, |identities| {
        for path in ours.keys() {
            let content = anew(&repository, path, &recipients, identities)?;
            prepared.push((path, repository.prepare(path, &content)?));
        }
        Ok(())
    })?;
    let mut page = Page::new();
    let (written, left): (Vec<_>, Vec<_>) = (ours.keys().collect(), of_sops.keys().collect());
    for (path, file) in prepared {
        file.put()?;
        page.line(&format!("encrypted anew: {path}"));
    }
    let all = count(written.len(), "file");
    page.line(&format!("{all}, for {} of {RECIPIENTS}", count(recipients.count(), "recipient")));
    for path in &left {
        page.line(&format!("left as it is: {path} (sops updatekeys {path})"));
    }
    page.line("whoever is no recipient any more can still read earlier commits: change the secrets themselves, too");
    tell(call, &page, "rekey", json!({ "files": written, "left": left, "recipients": recipients.count() }));
    Ok(0)
}

/// Every file that something of the repository names, and all others of its folders with secrets: nothing may use
/// them yet.
fn files(call: &Call) -> Result<BTreeMap<Utf8PathBuf, Sealed>> {
    let spec = wire::spec(call.common)?;
    let tree = source::open(&spec, &source::default_cache())?;
    let mut files = wire::load_tree(call.common, &tree, &spec.place, Secrets::Placeholder)?.config.sealed;
    let own =
        |path: &Utf8Path| ["hosts", "stacks", "secrets", "templates"].iter().any(|folder| path.starts_with(folder));
    for (path, bytes) in tree.files.iter().filter(|(path, _)| own(path)) {
        if let Some(form) = form(path, bytes) {
            files.entry(path.clone()).or_insert(form);
        }
    }
    Ok(files)
}

/// In which form a file has secrets in it, if it has any.
fn form(path: &Utf8Path, bytes: &[u8]) -> Option<Sealed> {
    if is_age(bytes) {
        return Some(Sealed::Single);
    }
    let text = std::str::from_utf8(bytes).ok().filter(|_| matches!(path.extension(), Some("yaml" | "yml" | "json")))?;
    if is_sops(text) {
        return Some(Sealed::Sops);
    }
    is_sealed(text).then_some(Sealed::Named)
}

fn anew(
    repository: &Repository,
    path: &Utf8PathBuf,
    recipients: &Recipients,
    identities: &Identities<'_>,
) -> Result<Vec<u8>> {
    let bytes = repository.read(Utf8Path::new(path))?.unwrap_or_default();
    match Form::of(path, &bytes)? {
        Form::Single { armored } => {
            let content = identities.open(&bytes).map_err(|locked| locked.error(path.as_str()))?;
            recipients.encrypt(&content, armored)
        }
        Form::Named(file) => {
            let values = opened(path, &file, identities)?;
            Ok(sealed(&file, &values, recipients)?.into_bytes())
        }
    }
}

/// A file of named secrets with these values, encrypted. What has none of them stays as it is.
pub(super) fn sealed(
    file: &crate::sealed::named::Named,
    values: &[(String, Zeroizing<String>)],
    recipients: &Recipients,
) -> Result<String> {
    let sealed = file.map(|name| {
        let value = values.iter().find(|(other, _)| other == name);
        let value = value.map(|(_, value)| recipients.encrypt(value.as_bytes(), true)).transpose()?;
        Ok::<_, Error>(value.map(|bytes| Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
    })?;
    Ok(sealed.text().to_string())
}
