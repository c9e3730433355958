//! A deadline that both the waiting task and the working thread look at, and that stands still while a person types.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a person may take to type a passphrase.
const PATIENCE: Duration = Duration::from_mins(5);

/// A moment by which something must be done. Clones are the same deadline.
#[derive(Clone)]
pub struct Clock {
    end: Arc<Mutex<Instant>>,
    /// How long it was from the beginning to the end.
    pub span: Duration,
}

impl Clock {
    /// The deadline `span` from now.
    pub fn new(span: Duration) -> Self {
        Clock { end: Arc::new(Mutex::new(Instant::now() + span)), span }
    }

    /// The moment itself. It may move later, never earlier.
    pub fn end(&self) -> Instant {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long is left.
    pub fn left(&self) -> Duration {
        self.end().saturating_duration_since(Instant::now())
    }

    /// Waits for a person: the time `question` takes does not count.
    pub fn pause<T>(&self, question: impl FnOnce() -> T) -> T {
        let left = self.left();
        self.set(Instant::now() + PATIENCE + left);
        let answer = question();
        self.set(Instant::now() + left);
        answer
    }

    fn set(&self, end: Instant) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Waits for `done`, until the deadline.
    pub async fn wait<T>(&self, done: impl Future<Output = T>) -> Option<T> {
        let mut done = std::pin::pin!(done);
        loop {
            let end = self.end();
            tokio::select! {
                value = &mut done => return Some(value),
                () = tokio::time::sleep_until(end.into()) => if self.end() <= end { return None },
            }
        }
    }
}
