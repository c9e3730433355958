//! `reconcile secret view`: a secret on standard output. Nothing else of the program ever shows one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use serde_json::{Map, Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::cli::Call;
use crate::cli::secret::answer;
use crate::cli::secret::repository::{Form, Repository, opened, with_identities};

/// Runs the command.
pub(super) fn run(call: &Call, file: &Utf8Path, name: Option<&str>) -> Result<u8> {
    let repository = Repository::open(call)?;
    let path = repository.path(file)?;
    let missing = || Error::new(Kind::Usage, format!("the repository has no file `{path}`"));
    let bytes = repository.read(&path)?.ok_or_else(missing)?;
    let show = |bytes: &[u8], fields: Value| {
        if call.common.json {
            call.screen.show_json(&answer("view", fields));
        } else {
            call.screen.show_bytes(bytes);
        }
    };
    with_identities(call, |identities| {
        match (Form::of(&path, &bytes)?, name) {
            (Form::Single { .. }, None) => {
                let content = identities.open(&bytes).map_err(|locked| locked.error(path.as_str()))?;
                show(&content, single(&path, &content));
            }
            (Form::Single { .. }, Some(_)) => {
                return Err(Error::new(Kind::Usage, format!("`{path}` is one secret, without names")));
            }
            (Form::Named(file), None) => {
                let values = opened(&path, &file, identities)?;
                let clear = file.map(|name| {
                    Ok::<_, Error>(values.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()))
                })?;
                let all: Map<String, Value> =
                    values.iter().map(|(name, value)| (name.clone(), json!(value.as_str()))).collect();
                show(clear.text().as_bytes(), json!({ "file": path, "secrets": all }));
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
                show(value.as_bytes(), json!({ "file": path, "name": name, "secret": value.as_str() }));
            }
        }
        Ok(0)
    })
}

/// A file that is one secret. JSON has no bytes, so what is not text is in base64.
fn single(path: &Utf8Path, content: &[u8]) -> Value {
    match std::str::from_utf8(content) {
        Ok(text) => json!({ "file": path, "secret": text }),
        Err(_) => json!({ "file": path, "base64": STANDARD.encode(content) }),
    }
}
