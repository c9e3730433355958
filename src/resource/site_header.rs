//! Headers of a site's answers.

use crate::base::decode::{Reader, Text};
use crate::resource::lowering::Lowering;
use crate::resource::value;

/// The header set `headers "security"`.
const SECURITY: [(&str, &str); 6] = [
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-XSS-Protection", "1; mode=block"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer-when-downgrade"),
    ("Content-Security-Policy", "default-src 'self' http: https: data: blob: 'unsafe-inline'"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
];

/// A header of answers, or a set of them.
#[derive(Debug, Clone)]
pub enum Header {
    /// `headers "security"`
    Set(Text),
    /// `header "X-Robots-Tag" "none"`
    One(Text, Text),
}

impl Header {
    /// Reads all `headers` and `header` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let mut headers: Vec<Header> = reader.values("headers").into_iter().map(Header::Set).collect();
        for mut node in reader.children("header") {
            let (name, value) = (node.required("a name"), node.required("a value after the name"));
            node.finish();
            headers.extend(name.zip(value).map(|(name, value)| Header::One(name, value)));
        }
        headers
    }

    /// Names and values; a header given later replaces one of the same name.
    pub fn lower_all(headers: &[Header], on: &Lowering<'_>) -> Option<Vec<(String, String)>> {
        let mut all: Vec<(String, String)> = Vec::new();
        for header in headers {
            match header {
                Header::Set(text) => {
                    on.parsed(text, "a set of headers (there is \"security\")", |word| {
                        (word == "security").then_some(())
                    })?;
                    for (name, value) in SECURITY {
                        put(&mut all, name.into(), value.into());
                    }
                }
                Header::One(name, value) => {
                    let name = on.parsed(name, "the name of a header", header_name)?;
                    let value = value::word(on, value)?;
                    put(&mut all, name, value);
                }
            }
        }
        Some(all)
    }
}

/// Adds a header, or replaces one of the same name.
pub fn put(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
        Some(known) => known.1 = value,
        None => all.push((name, value)),
    }
}

/// The name of a header.
pub fn header_name(word: &str) -> Option<String> {
    let clean = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    (!word.is_empty() && word.chars().all(clean)).then(|| word.to_string())
}
