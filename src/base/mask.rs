//! What others say is shown with the secrets of a run masked in it: a log may hold what a program was given.

use crate::base::secret::{MASK, Secret};

/// Shorter texts are no secrets, and would be found in everything.
const SHORTEST: usize = 4;

/// The texts that must not be shown.
#[derive(Default)]
pub struct Mask {
    hidden: Vec<String>,
}

impl Mask {
    /// Masks these secrets: as they are, each of their lines, and as JSON and URLs write them.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut hidden: Vec<String> = secrets.into_iter().filter_map(Secret::text).flat_map(forms).collect();
        hidden.retain(|text| text.len() >= SHORTEST);
        // What is a part of another is masked after it.
        hidden.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        hidden.dedup();
        Mask { hidden }
    }

    /// A line with nothing secret in it.
    pub fn line(&self, line: &str) -> String {
        self.hidden.iter().fold(line.to_string(), |line, secret| line.replace(secret, MASK))
    }
}

/// The ways in which a text may stand in a log.
fn forms(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).flat_map(|line| {
        let quoted = serde_json::Value::from(line).to_string();
        [line.to_string(), quoted[1..quoted.len() - 1].to_string(), percent(line)]
    });
    lines.collect()
}

/// As it stands in a URL.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_was_given_is_not_shown_in_its_log() {
        let secrets = ["p@ss \"word\"", "p@ss", "abc", "-----BEGIN KEY-----\nMIIEvQ+/x\n-----END KEY-----"];
        let secrets: Vec<Secret> = secrets.map(|text| Secret::new(text.into())).into();
        let mask = Mask::of(&secrets);
        for (said, shown) in [
            ("login p@ss \"word\" refused", "login ‹secret› refused"),
            (r#"{"password":"p@ss \"word\""}"#, r#"{"password":"‹secret›"}"#),
            ("postgres://app:p%40ss%20%22word%22@db", "postgres://app:‹secret›@db"),
            ("abc p@ss", "abc ‹secret›"),
            ("bad key: MIIEvQ+/x", "bad key: ‹secret›"),
        ] {
            assert_eq!(mask.line(said), shown);
        }
    }
}
