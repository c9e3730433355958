//! The one place that writes to standard output and standard error.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use serde_json::Value;

use crate::base::diagnostic::Problems;
use crate::cli::args::Color;
use crate::cli::page::Page;
use crate::cli::problems::{Form, problems_text};

/// Where the reader sits: their terminal, or whatever stands in its place.
pub struct Screen {
    color: ColorChoice,
    /// How many columns there are: of the terminal, or a good number where there is none.
    pub width: usize,
    /// Whether a person watches standard error.
    pub is_watched: bool,
    /// Whether standard output is a terminal.
    pub is_terminal: bool,
    failed: RefCell<Option<io::Error>>,
}

impl Screen {
    /// A screen with colours as asked for.
    pub fn new(color: Color) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::AlwaysAnsi,
            Color::Never => ColorChoice::Never,
        };
        Screen {
            color,
            width: terminal_size::terminal_size().map_or(120, |(width, _)| usize::from(width.0)).max(40),
            is_watched: io::stderr().is_terminal(),
            is_terminal: io::stdout().is_terminal(),
            failed: RefCell::new(None),
        }
    }

    /// Whether standard error takes colours.
    pub fn has_color(&self) -> bool {
        AutoStream::new(io::stderr(), self.color).current_choice() != ColorChoice::Never
    }

    /// Shows a page on standard output.
    pub fn show(&self, page: &Page) {
        let written = AutoStream::new(io::stdout(), self.color).lock().write_all(page.as_str().as_bytes());
        self.remember(written);
    }

    /// Shows text on standard output. The caller has made it harmless.
    pub fn show_text(&self, text: &str) {
        self.show_bytes(text.as_bytes());
    }

    /// Writes bytes to standard output as they are.
    pub fn show_bytes(&self, bytes: &[u8]) {
        self.remember(io::stdout().lock().write_all(bytes));
    }

    /// Shows JSON on standard output.
    pub fn show_json(&self, value: &Value) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.show_text(&format!("{text}\n"));
    }

    /// Says something on standard error.
    pub fn say(&self, page: &Page) {
        // Where standard error is gone, there is nobody to tell.
        let _ = AutoStream::new(io::stderr(), self.color).lock().write_all(page.as_str().as_bytes());
    }

    /// Shows problems on standard error.
    pub fn say_problems(&self, problems: &Problems) {
        if problems.0.is_empty() {
            return;
        }
        let form = Form { graphical: self.is_watched || self.has_color(), width: self.width.min(120) };
        let text = problems_text(problems, form);
        let _ = AutoStream::new(io::stderr(), self.color).lock().write_all(text.as_bytes());
    }

    /// The exit code, given what the command says: output that could not be written is a failure, unless its reader
    /// has simply had enough.
    pub fn finish(&self, code: u8) -> u8 {
        self.remember(io::stdout().lock().flush());
        match self.failed.take() {
            Some(error) => {
                let mut page = Page::new();
                page.line(&format!("error: standard output cannot be written: {error}"));
                self.say(&page);
                code.max(1)
            }
            None => code,
        }
    }

    fn remember(&self, written: io::Result<()>) {
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}
