//! By which names SOPS decided what to encrypt.

use regex::Regex;
use serde_json::{Map, Value};

/// The rules of one file. All that are there are asked in turn, as SOPS does, and the last one decides.
pub(super) struct Rules {
    unencrypted_suffix: Option<String>,
    encrypted_suffix: Option<String>,
    unencrypted_regex: Option<Regex>,
    encrypted_regex: Option<Regex>,
    /// Comments have a say: then nothing can be told here, where they are not seen.
    comments: bool,
}

impl Rules {
    /// The rules that a file's metadata has, or what is wrong with them.
    pub(super) fn of(metadata: &Map<String, Value>) -> Result<Rules, String> {
        let text =
            |name: &str| metadata.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_string);
        let expression = |name: &str| {
            let parsed = text(name).map(|text| Regex::new(&text)).transpose();
            parsed.map_err(|_| format!("has a rule that is not understood: `sops.{name}`"))
        };
        Ok(Rules {
            unencrypted_suffix: text("unencrypted_suffix"),
            encrypted_suffix: text("encrypted_suffix"),
            unencrypted_regex: expression("unencrypted_regex")?,
            encrypted_regex: expression("encrypted_regex")?,
            comments: text("unencrypted_comment_regex").or(text("encrypted_comment_regex")).is_some(),
        })
    }

    /// Whether a value below these names should be encrypted.
    pub(super) fn are_for(&self, path: &[String]) -> bool {
        if self.comments {
            return false;
        }
        let ends = |suffix: &String| path.iter().any(|name| name.ends_with(suffix.as_str()));
        let matches = |expression: &Regex| path.iter().any(|name| expression.is_match(name));
        let mut encrypted = !self.unencrypted_suffix.as_ref().is_some_and(ends);
        if let Some(suffix) = &self.encrypted_suffix {
            encrypted = ends(suffix);
        }
        if self.unencrypted_regex.as_ref().is_some_and(matches) {
            encrypted = false;
        }
        if let Some(expression) = &self.encrypted_regex {
            encrypted = matches(expression);
        }
        encrypted
    }
}
