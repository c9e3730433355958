//! Text on its way to a terminal. Whatever is put on a page is made visible first, so nothing that a file, a host or a
//! commit says can move the cursor, change colours or pass for something else.

use std::borrow::Cow;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

/// Plain text.
pub const PLAIN: Style = Style::new();
/// What matters most on a line.
pub const BOLD: Style = Style::new().bold();
/// What matters least.
pub const DIM: Style = Style::new().dimmed();
/// Something comes.
pub const ADD: Style = AnsiColor::Green.on_default();
/// Something changes.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Something goes, or is wrong.
pub const REMOVE: Style = AnsiColor::Red.on_default();
/// Something is done to what runs.
pub const EFFECT: Style = AnsiColor::Cyan.on_default();
/// Something is owed.
pub const OWED: Style = AnsiColor::Magenta.on_default();

/// Text with colours. The colours are only ever our own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Page {
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Page::default()
    }

    /// Adds text in a style. Control characters in it, line ends among them, are made visible.
    pub fn put(&mut self, style: Style, text: &str) -> &mut Self {
        let text = visible(text);
        if style == PLAIN || text.is_empty() {
            self.text.push_str(&text);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{style}{text}{style:#}");
        }
        self
    }

    /// Adds spaces.
    pub fn space(&mut self, count: usize) -> &mut Self {
        self.text.extend(std::iter::repeat_n(' ', count));
        self
    }

    /// Ends the line. Spaces at its end go.
    pub fn end(&mut self) -> &mut Self {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
        self
    }

    /// Adds a whole line of plain text.
    pub fn line(&mut self, text: &str) -> &mut Self {
        self.put(PLAIN, text).end()
    }

    /// Adds what to do next. Its further lines stand below its first, so none of them can pass for something else.
    pub fn hint(&mut self, indent: usize, hint: &str) -> &mut Self {
        for (number, line) in hint.lines().enumerate() {
            self.space(indent).put(DIM, if number == 0 { "hint: " } else { "      " }).put(PLAIN, line).end();
        }
        self
    }

    /// Adds everything of another page.
    pub fn add(&mut self, other: &Page) -> &mut Self {
        self.text.push_str(&other.text);
        self
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// All of it, with colours.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// All of it, without colours.
    pub fn plain(&self) -> String {
        anstream::adapter::strip_str(&self.text).to_string()
    }
}

/// How many columns a text takes up.
pub fn width(text: &str) -> usize {
    visible(text).width()
}

/// The text with every character made visible that would otherwise act on a terminal or hide from the reader. Tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\u{7f}' => shown.push('␡'),
            '\0'..='\u{1f}' if c != '\t' => shown.extend(char::from_u32(0x2400 + u32::from(c))),
            c if is_hidden(c) => {
                let _ = write!(shown, "‹U+{:04X}›", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Control characters, marks that turn the direction of writing, and marks without width that let one name look like
/// another.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}')
}

/// The text cut to so many columns, with a mark where something is missing.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    for c in text.chars() {
        if kept.width() + c.to_string().width() + 1 > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// A number with its noun: `1 file`, `2 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_turned_writing_are_made_visible() {
        assert_eq!(visible("a\tb"), "a\tb");
        assert_eq!(visible("\u{1b}[2J\r\0\u{7f}"), "␛[2J␍␀␡");
        assert_eq!(visible("\u{9b}31m \u{202e}x"), "‹U+009B›31m ‹U+202E›x");
    }

    #[test]
    fn colours_are_only_our_own() {
        let mut page = Page::new();
        page.put(ADD, "a\u{1b}[31mb").end();
        assert_eq!(page.plain(), "a␛[31mb\n");
        assert!(page.as_str().starts_with("\u{1b}[32m"));
    }

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(cut("übermäßig", 5), "über…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 6), "日本語");
    }
}
