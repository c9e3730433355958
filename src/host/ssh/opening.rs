//! A session that is refused at first: one that has just been ended may still be taking up the last place.

use std::time::{Duration, Instant};

/// What may be the matter.
pub const MANY: &str = "sshd allows ten at once unless MaxSessions says otherwise";
/// How long it is asked for.
const REFUSED: Duration = Duration::from_secs(2);
/// How long to wait before it is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// When a session was first refused, and when it is asked for again; nothing as long as it was not.
#[derive(Default)]
pub struct Refused(Option<(Instant, Instant)>);

impl Refused {
    /// Whether it is too early to ask.
    pub fn waits(&self) -> bool {
        self.0.is_some_and(|(_, again)| Instant::now() < again)
    }

    /// When to ask again.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.0.map(|(_, again)| again)
    }

    /// It is refused. Whether it is worth asking again.
    pub fn may_ask_again(&mut self) -> bool {
        let now = Instant::now();
        let first = self.0.map_or(now, |(first, _)| first);
        self.0 = Some((first, now + AGAIN));
        now < first + REFUSED
    }
}
