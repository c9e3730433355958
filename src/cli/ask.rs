//! Asking the person at the terminal.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::secret::Secret;
use crate::cli::page::{BOLD, Page, visible};
use crate::cli::progress::Progress;
use crate::cli::screen::Screen;
use crate::host::transport::Prompt;

/// Whether there is somebody to ask.
pub fn is_somebody_there(no_input: bool) -> bool {
    !no_input && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that is answered with yes or no. Anything but yes is no.
pub fn confirm(screen: &Screen, question: &str) -> bool {
    let mut page = Page::new();
    page.put(BOLD, &format!("{question} [y/N] "));
    screen.say(&page);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Asks for passphrases at the terminal, each once, however many hosts need it.
pub struct Passphrases {
    progress: Progress,
    somebody: bool,
    known: Mutex<BTreeMap<Utf8PathBuf, Known>>,
}

/// What was said to a question.
#[derive(Default)]
struct Known {
    answer: Option<Secret>,
    asked: usize,
}

/// How often a person may mistype, however many hosts have tried the answers.
const TRIES: usize = 3;

impl Passphrases {
    /// Asks between what `progress` shows; nobody is asked if `no_input`.
    pub fn new(progress: Progress, no_input: bool) -> Self {
        // The terminal itself is asked, wherever standard input comes from.
        let somebody = !no_input && std::fs::File::open("/dev/tty").is_ok();
        Passphrases { progress, somebody, known: Mutex::new(BTreeMap::new()) }
    }
}

impl Prompt for Passphrases {
    fn passphrase(&self, key: &Utf8Path, wrong: Option<&Secret>) -> Option<Secret> {
        if !self.somebody {
            return None;
        }
        // Held while the person types, so that hosts ask one after the other.
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = known.entry(key.to_owned()).or_default();
        let is_wrong = |answer: &Secret| wrong.is_some_and(|wrong| wrong.expose() == answer.expose());
        match &known.answer {
            None if known.asked > 0 => return None,
            Some(answer) if !is_wrong(answer) => return Some(answer.clone()),
            Some(_) if known.asked == TRIES => return None,
            _ => {}
        }
        let wrong = if known.asked > 0 { "that was wrong. " } else { "" };
        let question = format!("{wrong}passphrase of {}: ", visible(key.as_str()));
        let answer = self.progress.aside(|| rpassword::prompt_password(question));
        known.answer = answer.ok().filter(|answer| !answer.is_empty()).map(Secret::new);
        known.asked += 1;
        known.answer.clone()
    }
}
