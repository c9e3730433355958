//! Several named secrets in one file: YAML with names in clear and each value encrypted.
//!
//! The file is read by lines, so that comments, blank lines and values that are left alone stay byte for byte what they
//! are: a line that begins with a name begins an entry, the indented lines below belong to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::diagnostic::{Problem, Source, Span};
use crate::sealed::header;

/// A file of named secrets, encrypted or in clear.
#[derive(Debug, Clone)]
pub struct Named(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    /// A comment or a blank line.
    Rest(String),
    /// A name with its value, as written.
    Entry { name: String, line: usize, text: Zeroizing<String> },
}

/// What is wrong with such a file, and in which line, counted from 0. It never repeats what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Names with their values, and the lines in which they begin.
pub type Values<'a> = Vec<(&'a str, Zeroizing<String>, usize)>;

/// Whether the file can be one of named secrets that are encrypted: one of its values is an age file.
pub fn is_sealed(text: &str) -> bool {
    let armor = std::str::from_utf8(header::ARMOR).unwrap_or_default();
    text.lines().any(|line| line.starts_with([' ', '\t']) && line.trim() == armor)
}

impl Named {
    /// A file with nothing in it but a word of explanation.
    pub fn empty() -> Self {
        let lines = ["# Secrets, each encrypted for secrets/recipients. Change them with: reconcile secret edit\n"];
        Named(lines.map(|line| Piece::Rest(line.into())).into())
    }

    /// Reads a file.
    pub fn parse(text: &str) -> Result<Named, Wrong> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut blank: Vec<String> = Vec::new();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if line.trim().is_empty() {
                blank.push(line.into());
                continue;
            }
            if line.starts_with([' ', '\t']) {
                let Some(Piece::Entry { text, .. }) = pieces.last_mut() else {
                    return Err(Wrong { line: number, what: "an indented line that belongs to no name".into() });
                };
                // Blank lines within a value are part of it.
                blank.drain(..).for_each(|blank| text.push_str(&blank));
                text.push_str(line);
                continue;
            }
            pieces.extend(blank.drain(..).map(Piece::Rest));
            if line.starts_with('#') {
                pieces.push(Piece::Rest(line.into()));
                continue;
            }
            let name = line.split(':').next().filter(|name| name.len() < line.trim_end().len()).unwrap_or_default();
            if !is_name(name) {
                let what = "this is not `name: value`: a name has letters, digits and `_`".into();
                return Err(Wrong { line: number, what });
            }
            if pieces.iter().any(|piece| matches!(piece, Piece::Entry { name: other, .. } if other == name)) {
                return Err(Wrong { line: number, what: format!("the name `{name}` is there twice") });
            }
            pieces.push(Piece::Entry { name: name.into(), line: number, text: Zeroizing::new(line.into()) });
        }
        pieces.extend(blank.into_iter().map(Piece::Rest));
        Ok(Named(pieces))
    }

    /// Names and their values, in order, each with the line of its name.
    pub fn values(&self) -> Result<Values<'_>, Wrong> {
        let entries = self.0.iter().filter_map(|piece| match piece {
            Piece::Entry { name, line, text } => Some((name, *line, text)),
            Piece::Rest(_) => None,
        });
        let read = entries.map(|(name, line, text)| {
            // The parser's own words could repeat what stands there.
            let value = serde_yaml::from_str::<BTreeMap<String, String>>(text).ok();
            let value = value.and_then(|mut map| map.remove(name));
            let value = value.ok_or_else(|| Wrong { line, what: format!("the value of `{name}` is not one text") })?;
            Ok((name.as_str(), Zeroizing::new(value), line))
        });
        read.collect()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Entry { name, .. } => Some(name.as_str()),
            Piece::Rest(_) => None,
        })
    }

    /// The same file with other values: `change` gives the new value of a name, encrypted or in clear, or nothing to leave
    /// the entry as it is written.
    pub fn map<E>(&self, mut change: impl FnMut(&str) -> Result<Option<Zeroizing<String>>, E>) -> Result<Named, E> {
        let mut pieces = self.0.clone();
        for piece in &mut pieces {
            if let Piece::Entry { name, text, .. } = piece
                && let Some(value) = change(name)?
            {
                *text = entry(name, &value);
            }
        }
        Ok(Named(pieces))
    }

    /// Gives a name a value, at the end if it is new.
    pub fn set(&mut self, name: &str, value: &str) {
        let new = entry(name, value);
        let there = self.0.iter_mut().find_map(|piece| match piece {
            Piece::Entry { name: other, text, .. } if other == name => Some(text),
            _ => None,
        });
        if let Some(text) = there {
            *text = new;
            return;
        }
        self.end_line();
        self.0.push(Piece::Entry { name: name.into(), line: 0, text: new });
    }

    /// The entry of `name` as `other` has it, if it has one.
    pub fn take_entry(&mut self, name: &str, other: &Named) -> bool {
        let theirs = other.0.iter().find_map(|piece| match piece {
            Piece::Entry { name: found, text, .. } if found == name => Some(text.clone()),
            _ => None,
        });
        let own = self.0.iter_mut().find_map(|piece| match piece {
            Piece::Entry { name: found, text, .. } if found == name => Some(text),
            _ => None,
        });
        match (own, theirs) {
            (Some(own), Some(theirs)) => {
                *own = theirs;
                true
            }
            _ => false,
        }
    }

    /// A file that does not end with a line break gets one.
    fn end_line(&mut self) {
        match self.0.last_mut() {
            Some(Piece::Rest(text)) if !text.ends_with('\n') => text.push('\n'),
            Some(Piece::Entry { text, .. }) if !text.ends_with('\n') => text.push('\n'),
            _ => {}
        }
    }

    /// The whole text.
    pub fn text(&self) -> Zeroizing<String> {
        let mut whole = Zeroizing::new(String::new());
        for piece in &self.0 {
            whole.push_str(match piece {
                Piece::Rest(text) => text,
                Piece::Entry { text, .. } => text,
            });
        }
        whole
    }
}

/// The file as problems may show it: names and comments, but nothing of a value.
pub fn masked(path: &camino::Utf8Path, text: &str) -> Arc<Source> {
    let hidden = text.split_inclusive('\n').map(|line| {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        let name = line.split(':').next().filter(|name| is_name(name));
        match name {
            _ if line.starts_with('#') || line.trim().is_empty() => line.to_string(),
            Some(name) if line[name.len()..].starts_with(':') => format!("{name}: …{end}"),
            _ => format!("  …{end}"),
        }
    });
    Source::new(path, hidden.collect::<String>())
}

/// A problem at a line of a masked file.
pub fn problem(source: &Arc<Source>, wrong: &Wrong) -> Problem {
    let offset: usize = source.text.split_inclusive('\n').take(wrong.line).map(str::len).sum();
    let line = source.text[offset..].lines().next().unwrap_or_default();
    let name = line.split(':').next().unwrap_or_default();
    Problem::error(wrong.what.clone()).at(&Span::new(source, offset, name.len()), "here")
}

/// Whether a secret can be called so.
pub fn is_name(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(starts) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name: value` in YAML that gives exactly this value back.
fn entry(name: &str, value: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("{name}: "));
    if is_block(value) {
        text.push_str(if value.ends_with('\n') { "|\n" } else { "|-\n" });
        for line in value.trim_end_matches('\n').split('\n') {
            text.push_str(if line.is_empty() { "" } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
    } else {
        let quoted = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
        for c in quoted.chars() {
            match u32::from(c) {
                code if is_odd(c) => text.extend(["\\u", &format!("{code:04x}")]),
                _ => text.push(c),
            }
        }
        text.push('\n');
    }
    text
}

/// Whether a character has a meaning of its own in YAML, or may not stand there, besides those that JSON escapes.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a value of several lines can be written as such.
fn is_block(value: &str) -> bool {
    let body = value.strip_suffix('\n').unwrap_or(value);
    (body.contains('\n') || value.starts_with("-----BEGIN"))
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\t', '\n'])
        && body.chars().all(|c| c == '\n' || c == '\t' || !c.is_control() && !is_odd(c))
}
