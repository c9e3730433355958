//! Ctrl-C: once to finish the stacks that were begun and report, twice to stop. While nothing is being changed, once is enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::page::{CHANGE, PLAIN, Page};
use crate::cli::progress::Progress;
use crate::cli::screen::Screen;

/// The exit code of a program stopped by Ctrl-C, and of one that was asked to end: 128 and the signal's number.
const STOPPED: (u8, u8) = (130, 143);

/// Listens for Ctrl-C and for the polite request to end.
pub struct Interrupt {
    interrupted: watch::Receiver<bool>,
    careful: Arc<AtomicBool>,
    code: Arc<AtomicU8>,
}

impl Interrupt {
    /// Begins to listen. Must be called within the runtime.
    pub fn listen(screen: Screen, progress: Progress) -> std::io::Result<Self> {
        let (sender, interrupted) = watch::channel(false);
        let (careful, code) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(0)));
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(watch_signals(signals, sender, (careful.clone(), code.clone()), screen, progress));
        Ok(Interrupt { interrupted, careful, code })
    }

    /// Becomes true when the person wants to stop.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.interrupted.clone()
    }

    /// With which exit code a program ends that was asked to stop, if it was.
    pub fn code(&self) -> Option<u8> {
        Some(self.code.load(Ordering::SeqCst)).filter(|code| *code != 0)
    }

    /// From now on things are changed: the first Ctrl-C lets the stacks in hand finish.
    pub fn be_careful(&self) {
        self.careful.store(true, Ordering::SeqCst);
    }
}

/// What the first and the second Ctrl-C do, while hosts are being changed.
const ONCE: &str = "stacks that were begun are finished first; Ctrl-C again stops at once";
const AGAIN: &str = "nobody confirms what was begun: remote hosts finish it and go back by themselves within the time of \
    --confirm, unless it is 0; `reconcile plan` shows how they are";

fn say(progress: &Progress, screen: &Screen, what: &str, more: &str) {
    let mut page = Page::new();
    page.put(CHANGE, what).put(PLAIN, more).end();
    progress.aside(|| screen.say(&page));
}

async fn watch_signals(
    (mut interrupt, mut terminate): (Signal, Signal),
    sender: watch::Sender<bool>,
    (careful, asked): (Arc<AtomicBool>, Arc<AtomicU8>),
    screen: Screen,
    progress: Progress,
) {
    loop {
        let code = tokio::select! {
            _ = interrupt.recv() => STOPPED.0,
            _ = terminate.recv() => STOPPED.1,
        };
        asked.store(code, Ordering::SeqCst);
        let again = sender.send_replace(true);
        if again || !careful.load(Ordering::SeqCst) {
            if careful.load(Ordering::SeqCst) {
                say(&progress, &screen, "stopped: ", AGAIN);
            }
            // While a passphrase is typed, Ctrl-C does not come here, so the terminal is as it should be.
            std::process::exit(i32::from(code));
        }
        say(&progress, &screen, "stopping: ", ONCE);
    }
}
