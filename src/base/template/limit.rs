//! How much templates may write: a few lines that repeat each other would otherwise fill the memory.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that one text may be.
const TEXT: usize = 16 << 20;
/// The most that all texts of one scope may be together: the variables and resources of a stack on a host.
const ALL: usize = 128 << 20;

/// What is still free of [`ALL`]. Clones share it.
#[derive(Clone)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Default for Room {
    fn default() -> Self {
        Room(Arc::new(AtomicUsize::new(ALL)))
    }
}

/// Why something is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLarge {
    /// It is too large by itself.
    Text,
    /// It is too large together with the others.
    All,
}

impl TooLarge {
    /// What is wrong, and what to do about it.
    pub(super) fn words(self) -> (String, String) {
        let size = |bytes: usize| format!("{} MiB", bytes >> 20);
        match self {
            TooLarge::Text => (
                format!("this makes a text of more than {}", size(TEXT)),
                "is there a variable that repeats another one, which repeats another one?".into(),
            ),
            TooLarge::All => (
                format!("the texts of this stack are more than {} on one host, this one included", size(ALL)),
                "a `file` without template parts can be as large as it wants: name it by `source`".into(),
            ),
        }
    }
}

/// A text while a template writes it.
pub(super) struct Written<'a> {
    bytes: Vec<u8>,
    room: &'a Room,
    too_large: Option<TooLarge>,
}

impl<'a> Written<'a> {
    /// Nothing yet, of what will be about `size` bytes.
    pub(super) fn new(room: &'a Room, size: usize) -> Self {
        Written { bytes: Vec::with_capacity(size), room, too_large: None }
    }

    /// The text. A template writes nothing else.
    pub(super) fn into_text(self) -> String {
        String::from_utf8(self.bytes).unwrap_or_default()
    }

    /// Why it is not whole, if that is for its size.
    pub(super) fn is_too_large(&self) -> Option<TooLarge> {
        self.too_large
    }
}

impl Write for Written<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let take = |free: usize| free.checked_sub(piece.len());
        self.too_large = if self.bytes.len() + piece.len() > TEXT {
            Some(TooLarge::Text)
        } else if self.room.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            Some(TooLarge::All)
        } else {
            self.bytes.extend_from_slice(piece);
            return Ok(piece.len());
        };
        Err(io::ErrorKind::FileTooLarge.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
