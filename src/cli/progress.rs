//! What is going on, for whoever watches: how many hosts are done, and what the others are doing.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::base::event::{Event, Sink};
use crate::base::id::HostName;
use crate::cli::page::{cut, visible};
use crate::plan::effect::size;

/// The longest text shown of what one host is doing.
const LONGEST: usize = 40;

/// A line on standard error that says what is going on. Copies share the same line.
#[derive(Clone)]
pub struct Progress(Arc<Line>);

struct Line {
    bar: ProgressBar,
    busy: Mutex<BTreeMap<HostName, String>>,
}

impl Progress {
    /// A line that is shown if `shown`, and otherwise says nothing.
    pub fn new(shown: bool) -> Self {
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{spinner} {prefix} {pos}/{len} hosts, {elapsed}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress(Arc::new(Line { bar, busy: Mutex::new(BTreeMap::new()) }))
    }

    /// Does something at the terminal while the line is out of the way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.bar.suspend(work)
    }

    fn begin(&self, hosts: usize, what: String) {
        self.0.bar.reset();
        self.0.bar.set_length(hosts as u64);
        self.0.bar.set_prefix(what);
        self.0.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn busy(&self, change: impl FnOnce(&mut BTreeMap<HostName, String>)) {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut busy);
        let all: Vec<String> = busy.iter().map(|(host, what)| format!("{host}: {what}")).collect();
        self.0.bar.set_message(all.join(" · "));
    }
}

impl Sink for Progress {
    fn note(&self, event: Event) {
        match event {
            Event::Begin { work, wave, hosts } => {
                let wave = wave.map(|(wave, all)| format!(" (wave {wave} of {all})"));
                self.begin(hosts, format!("{work}{}", wave.unwrap_or_default()));
            }
            Event::Pause { wave: (wave, all), seconds } => {
                self.begin(0, format!("pause of {seconds} s before wave {wave} of {all},"));
            }
            Event::Working { host, what } => self.busy(|busy| {
                let what = visible(&what);
                busy.insert(host, cut(&what, LONGEST).into_owned());
            }),
            Event::Pulling { host, image, done, all } => {
                let name = image.rsplit('/').next().unwrap_or(&image);
                self.note(Event::Working { host, what: format!("pull {name} {} of {}", size(done), size(all)) });
            }
            Event::Done { host, .. } => {
                self.busy(|busy| {
                    busy.remove(&host);
                });
                self.0.bar.inc(1);
            }
            Event::End => {
                self.busy(BTreeMap::clear);
                self.0.bar.disable_steady_tick();
                self.0.bar.finish_and_clear();
            }
        }
    }
}

/// Sends the program's log to standard error: nothing but warnings, with `-v` what is done, with `-vv` everything.
/// `RECONCILE_LOG` has the last word.
pub fn log(verbose: u8, color: bool) {
    let level = match verbose {
        0 => "warn",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("RECONCILE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Where a log is set up already, as in tests, that one serves.
    let _ = format.with_ansi(color && std::io::stderr().is_terminal()).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures::host;

    #[test]
    fn a_host_is_named_while_it_is_worked_on() {
        let progress = Progress::new(false);
        progress.note(Event::Begin { work: "apply", wave: Some((2, 3)), hosts: 2 });
        assert_eq!(progress.0.bar.prefix(), "apply (wave 2 of 3)");
        progress.note(Event::Working { host: host("a"), what: "look\u{1b}ing".into() });
        progress.note(Event::Working { host: host("b"), what: "x".repeat(80) });
        assert_eq!(progress.0.bar.message(), format!("a: look␛ing · b: {}…", "x".repeat(LONGEST - 1)));
        progress.note(Event::Done { host: host("b"), ok: true });
        assert_eq!((progress.0.bar.message().as_str(), progress.0.bar.position()), ("a: look␛ing", 1));
        progress.note(Event::End);
    }
}
