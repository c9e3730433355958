//! What happens while the program works, for whoever shows it: progress, JSON lines, a page.

use crate::base::id::HostName;

/// Something that happened.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Work on so many hosts begins.
    Begin {
        /// What is being done: `plan`, `apply`.
        work: &'static str,
        /// Which wave of how many, where there are several.
        wave: Option<(usize, usize)>,
        /// How many hosts take part.
        hosts: usize,
    },
    /// Nothing is done for a while, until the next wave begins.
    Pause {
        /// The next wave, and how many there are.
        wave: (usize, usize),
        /// For so many seconds.
        seconds: u64,
    },
    /// A host is being worked on.
    Working {
        /// The host.
        host: HostName,
        /// What it is doing, in a few words.
        what: String,
    },
    /// A host gets an image.
    Pulling {
        /// The host.
        host: HostName,
        /// The image's name.
        image: String,
        /// How many bytes have come.
        done: u64,
        /// How many there are, as far as is known.
        all: u64,
    },
    /// A host is done.
    Done {
        /// The host.
        host: HostName,
        /// Whether it went well.
        ok: bool,
    },
    /// All work is done.
    End,
}

/// Where events go. Shared by everything that works at the same time.
pub trait Sink: Send + Sync {
    /// Takes note of an event. Must not fail and must not wait.
    fn note(&self, event: Event);
}

/// A sink that forgets everything.
pub struct Silent;

impl Sink for Silent {
    fn note(&self, _event: Event) {}
}
