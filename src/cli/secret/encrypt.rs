//! `reconcile secret encrypt`: a value becomes a secret of the repository. It comes from standard input, from the terminal
//! or from a file, never from an argument, which every process could read.

use std::io::{self, IsTerminal as _, Read as _};

use camino::Utf8Path;
use serde_json::json;
use zeroize::Zeroizing;

use crate::base::error::{Error, Kind, Result};
use crate::cli::Call;
use crate::cli::page::{Page, count};
use crate::cli::secret::repository::{Form, Repository};
use crate::cli::secret::tell;
use crate::sealed::named::{Named, is_name};

/// Runs the command.
pub(super) fn run(call: &Call, file: &Utf8Path, name: Option<&str>, from: Option<&Utf8Path>) -> Result<u8> {
    let repository = Repository::open(call)?;
    let path = repository.path(file)?;
    let recipients = repository.recipients()?;
    let there = repository.read(&path)?;
    let content = match (name, there.as_deref()) {
        (None, there) => {
            if let Some(bytes) = there {
                must_be_one(&path, bytes)?;
            }
            let value = value(call, from, path.as_str())?;
            recipients.encrypt(&value, std::str::from_utf8(&value).is_ok())?
        }
        (Some(name), there) => {
            if !is_name(name) {
                let error = Error::new(Kind::Usage, format!("a secret cannot be called `{}`", name.escape_debug()));
                return Err(error.hint("a name has letters, digits and `_`; the value is read from standard input"));
            }
            let mut file = match there.map(|bytes| Form::of(&path, bytes)).transpose()? {
                None => Named::empty(),
                Some(Form::Named(file)) => file,
                Some(Form::Single { .. }) => {
                    return Err(Error::new(Kind::Usage, format!("`{path}` is one secret, without names")));
                }
            };
            let value = value(call, from, name)?;
            let text = std::str::from_utf8(&value).map_err(|_| {
                let error = Error::new(Kind::Usage, "this secret is not text, and cannot be one of several by name");
                error.hint("give it a file of its own: leave the name out")
            })?;
            // Editors and `echo` put a line break there, which is no part of the secret.
            let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
            let sealed = recipients.encrypt(text.as_bytes(), true)?;
            file.set(name, &String::from_utf8_lossy(&sealed));
            file.text().as_bytes().to_vec()
        }
    };
    repository.write(&path, &content)?;
    let mut page = Page::new();
    let what = name.map_or_else(|| format!("{path}"), |name| format!("{name} in {path}"));
    page.line(&format!("encrypted: {what}, for {}", count(recipients.count(), "recipient")));
    let fields = json!({ "file": path, "name": name, "recipients": recipients.count() });
    tell(call, &page, "encrypt", fields);
    Ok(0)
}

/// Refuses to replace a file that is something else than one secret.
fn must_be_one(path: &Utf8Path, bytes: &[u8]) -> Result<()> {
    match Form::of(path, bytes) {
        Ok(Form::Single { .. }) => Ok(()),
        Ok(Form::Named(_)) => Err(Error::new(Kind::Usage, format!("`{path}` has several secrets by name"))
            .hint(format!("name one: reconcile secret encrypt {path} NAME"))),
        Err(error) => Err(error),
    }
}

fn value(call: &Call, from: Option<&Utf8Path>, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |cause: io::Error| Error::new(Kind::Usage, "the secret cannot be read").because(cause);
    let value = match from {
        Some(path) => Zeroizing::new(std::fs::read(path).map_err(failed)?),
        None if io::stdin().is_terminal() && call.common.no_input => {
            return Err(Error::new(Kind::Usage, "there is no secret on standard input"));
        }
        None if io::stdin().is_terminal() => {
            let typed = rpassword::prompt_password(format!("{what}: ")).map_err(failed)?;
            Zeroizing::new(typed.into_bytes())
        }
        None => {
            let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 16));
            io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
            bytes
        }
    };
    if value.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(Kind::Usage, "the secret is empty").hint("pipe it in, or name its file by --from"));
    }
    Ok(value)
}
