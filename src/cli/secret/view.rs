//! `reconcile secret view`: a secret on standard output. Nothing else of the program ever shows one.

use camino::Utf8Path;

use crate::base::error::{Error, Kind, Result};
use crate::cli::Call;
use crate::cli::secret::repository::{Form, Repository, opened, with_identities};

/// Runs the command.
pub(super) fn run(call: &Call, file: &Utf8Path, name: Option<&str>) -> Result<u8> {
    let repository = Repository::open(call)?;
    let path = repository.path(file)?;
    let missing = || Error::new(Kind::Usage, format!("the repository has no file `{path}`"));
    let bytes = repository.read(&path)?.ok_or_else(missing)?;
    with_identities(call, |identities| {
        match (Form::of(&path, &bytes)?, name) {
            (Form::Single { .. }, None) => {
                let content = identities.open(&bytes).map_err(|locked| locked.error(path.as_str()))?;
                call.screen.show_bytes(&content);
            }
            (Form::Single { .. }, Some(_)) => {
                return Err(Error::new(Kind::Usage, format!("`{path}` is one secret, without names")));
            }
            (Form::Named(file), None) => {
                let values = opened(&path, &file, identities)?;
                let clear = file.map(|name| {
                    Ok::<_, Error>(values.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()))
                })?;
                call.screen.show_text(&clear.text());
            }
            (Form::Named(file), Some(name)) => {
                let values = opened(&path, &file, identities)?;
                let value = values.iter().find(|(other, _)| other == name);
                let (_, value) = value.ok_or_else(|| {
                    let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
                    let error =
                        Error::new(Kind::Usage, format!("`{path}` has no secret called `{}`", name.escape_debug()));
                    error.hint(format!("it has: {}", names.join(", ")))
                })?;
                call.screen.show_text(value);
            }
        }
        Ok(0)
    })
}
