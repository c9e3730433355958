//! What others say is shown with the secrets of a run masked in it: a log may hold what a program was given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::base::secret::{MASK, Secret};

/// Shorter texts are no secrets, and would be found in everything.
const SHORTEST: usize = 4;
/// The shortest part in base64 that is no word by chance.
const SHORTEST_BASE64: usize = 8;

/// The texts that must not be shown.
#[derive(Default)]
pub struct Mask {
    hidden: Vec<String>,
}

impl Mask {
    /// Masks these secrets: as they are, each of their lines, and as JSON, URLs and base64 write them.
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

    /// Takes what is secret out of a text.
    pub fn hide(&self, text: &mut String) {
        *text = self.line(text);
    }
}

/// The ways in which a text may stand in a log.
fn forms(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).flat_map(|line| {
        let quoted = serde_json::Value::from(line).to_string();
        let forms = [line.to_string(), quoted[1..quoted.len() - 1].to_string(), percent(line)];
        forms.into_iter().chain(base64(line))
    });
    lines.collect()
}

/// As it stands in base64, alone or inside of something longer, such as the password of HTTP's basic authentication. The
/// digits at both ends depend on what stands beside it.
fn base64(text: &str) -> impl Iterator<Item = String> + '_ {
    let inner = (0..3).map(|before| {
        let whole = STANDARD_NO_PAD.encode([&[0; 3][..before], text.as_bytes()].concat());
        let certain = (before + text.len()) * 8 / 6;
        whole.get([0, 2, 3][before]..certain).unwrap_or_default().to_string()
    });
    let known = inner.filter(|digits| digits.len() >= SHORTEST_BASE64);
    known.flat_map(|digits| [digits.replace('+', "-").replace('/', "_"), digits])
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
            ("Authorization: Basic YXBwOnBAc3MgIndvcmQi", "Authorization: Basic YXBwOn‹secret›"),
            ("it is cEBzcyAid29yZCIK", "it is ‹secret›IK"),
        ] {
            assert_eq!(mask.line(said), shown);
        }
    }
}
