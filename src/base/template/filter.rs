//! Filters that put text into the languages of configuration files, so that it stays one value there.

use minijinja::{Environment, Error, ErrorKind, Value};

/// Adds the filters to an environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter("systemd_quote", |value: &Value| written(value).and_then(|text| ok(systemd(&text))));
    environment.add_filter("nginx_quote", |value: &Value| written(value).and_then(|text| ok(nginx(&text))));
    environment.add_filter("sh_quote", |value: &Value| written(value).map(|text| shell(&text)));
    environment.add_filter("yaml_quote", json);
    environment.add_filter("json_quote", json);
}

/// One word of a systemd setting: quoted where needed, `\`, `"` and `%` escaped. There is no way to write a line break.
pub fn systemd(text: &str) -> Result<String, String> {
    no_control(text)?;
    let text = text.replace('%', "%%");
    if plain(&text, "_-./:=@,+%") {
        return Ok(text);
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// One word of an nginx directive. `$name` stays a variable: nginx has no way to write a dollar sign.
pub fn nginx(text: &str) -> Result<String, String> {
    no_control(text)?;
    if plain(text, "_-./:=@,+*$") {
        return Ok(text.to_string());
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// One word for a POSIX shell.
pub fn shell(text: &str) -> String {
    if plain(text, "_-./:=@,+%") { text.to_string() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The value as JSON, which YAML reads too.
fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::new(ErrorKind::BadSerialization, "this value cannot be written"))
}

/// A scalar as it would be written without a filter.
fn written(value: &Value) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Err(Error::new(ErrorKind::UndefinedError, "there is no value to quote"));
    }
    Ok(match (value.as_str(), value.is_true()) {
        (Some(text), _) => text.to_string(),
        (None, truth) if value.kind() == minijinja::value::ValueKind::Bool => truth.to_string(),
        _ => value.to_string(),
    })
}

fn ok(quoted: Result<String, String>) -> Result<String, Error> {
    quoted.map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
}

fn no_control(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a value here cannot contain a line break or another control character".into());
    }
    Ok(())
}

fn plain(text: &str, signs: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}
