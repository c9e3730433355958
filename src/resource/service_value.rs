//! What the values of systemd's directives may be, as far as a mistake in them would go unnoticed: systemd passes over a
//! line that it does not understand, and the service runs without its limit.

use crate::base::diagnostic::did_you_mean;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `128M`, `50%` or `infinity`.
    Memory,
    /// `20%`.
    Percent,
    /// `10s`, `1min 30s`, `infinity`, or seconds.
    Span,
    /// `TERM` or `SIGTERM`.
    Signal,
    /// A whole number between these.
    Number(i64, i64),
    /// A number of tasks.
    Tasks,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// The form of a directive's value, where it has one of these.
fn form(directive: &str) -> Option<Form> {
    Some(match directive {
        "MemoryMin" | "MemoryLow" | "MemoryHigh" | "MemoryMax" | "MemorySwapMax" => Form::Memory,
        "CPUQuota" => Form::Percent,
        "CPUWeight" => Form::Number(1, 10_000),
        "TasksMax" => Form::Tasks,
        "RestartSec"
        | "RestartMaxDelaySec"
        | "TimeoutStartSec"
        | "TimeoutStopSec"
        | "WatchdogSec"
        | "StartLimitIntervalSec" => Form::Span,
        "RestartSteps" | "StartLimitBurst" => Form::Number(0, 1_000_000),
        "OOMScoreAdjust" => Form::Number(-1000, 1000),
        "KillSignal" => Form::Signal,
        "KillMode" => Form::Word(&["control-group", "mixed", "process", "none"]),
        "OOMPolicy" => Form::Word(&["continue", "stop", "kill"]),
        "Restart" => {
            Form::Word(&["no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"])
        }
        _ => return None,
    })
}

/// What is wrong with the value of a directive: what it must be, and maybe how this one is meant.
pub fn fault(directive: &str, value: &str) -> Option<(String, Option<String>)> {
    let form = form(directive)?;
    if form.takes(value) {
        return None;
    }
    let near = form.near(value).filter(|near| form.takes(near));
    Some((form.words(), near.map(|near| format!("did you mean `{near}`?"))))
}

impl Form {
    fn takes(self, value: &str) -> bool {
        match self {
            Form::Memory => value == "infinity" || is_percent(value) || is_size(value),
            Form::Percent => value.strip_suffix('%').is_some_and(is_number),
            Form::Span => value == "infinity" || is_span(value),
            Form::Signal => is_signal(value),
            Form::Number(least, most) => value.parse().is_ok_and(|number: i64| (least..=most).contains(&number)),
            Form::Tasks => value == "infinity" || is_percent(value) || value.parse::<u64>().is_ok(),
            Form::Word(words) => words.contains(&value),
        }
    }

    fn words(self) -> String {
        match self {
            Form::Memory => "a size such as `128M` or `2G`, a share such as `50%`, or `infinity`".into(),
            Form::Percent => "a share of one processor such as `20%` or `200%`".into(),
            Form::Span => "a span of time such as `10s` or `1min 30s`, or `infinity`".into(),
            Form::Signal => "a signal such as `SIGTERM` or `SIGQUIT`".into(),
            Form::Number(least, most) => format!("a whole number from {least} to {most}"),
            Form::Tasks => "a number of tasks such as `100`, a share such as `10%`, or `infinity`".into(),
            Form::Word(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// The same in systemd's way of writing it, for what other programs write.
    fn near(self, value: &str) -> Option<String> {
        match self {
            Form::Memory => {
                let digits = value.find(|c: char| !c.is_ascii_digit())?;
                let unit = value[digits..].trim().chars().next()?.to_ascii_uppercase();
                Some(format!("{}{unit}", &value[..digits]))
            }
            // Docker counts processors.
            Form::Percent => Some(format!("{:.0}%", value.parse::<f64>().ok()? * 100.0)),
            Form::Word(["no", ..]) => match value {
                "unless-stopped" => Some("always".into()),
                "never" | "none" => Some("no".into()),
                _ => self.word_near(value),
            },
            Form::Word(_) => self.word_near(value),
            _ => None,
        }
    }
}

impl Form {
    fn word_near(self, value: &str) -> Option<String> {
        let Form::Word(words) = self else { return None };
        did_you_mean(value, words.iter().copied()).map(str::to_string)
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_percent(word: &str) -> bool {
    word.strip_suffix('%').is_some_and(|number| is_number(number) && number.parse::<f64>().is_ok_and(|n| n <= 100.0))
}

fn is_size(word: &str) -> bool {
    is_number(word.strip_suffix(['K', 'M', 'G', 'T', 'P', 'E', 'B']).unwrap_or(word))
}

/// Numbers, each with a unit or not.
fn is_span(text: &str) -> bool {
    const UNITS: [&str; 22] = [
        "", "us", "usec", "ms", "msec", "s", "sec", "second", "seconds", "m", "min", "minute", "minutes", "h", "hr",
        "hour", "hours", "d", "day", "days", "w", "week",
    ];
    let mut rest = text.trim();
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = rest[digits..].trim_start();
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        if !is_number(&rest[..digits]) || !UNITS.contains(&&after[..unit]) {
            return false;
        }
        (rest, any) = (after[unit..].trim_start(), true);
    }
    any
}

fn is_signal(word: &str) -> bool {
    const SIGNALS: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let real_time = name.strip_prefix("RTMIN+").or_else(|| name.strip_prefix("RTMAX-"));
    SIGNALS.contains(&name)
        || real_time.is_some_and(|number| number.parse::<u8>().is_ok_and(|number| number <= 30))
        || word.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_pass_over_is_an_error() {
        for (directive, good, bad, meant) in [
            ("MemoryMax", &["128M", "1.5G", "50%", "infinity", "1048576"][..], "128Mo", "`128M`"),
            ("MemoryLow", &["64K"], "64m", "`64M`"),
            ("MemoryMin", &["1T"], "much", ""),
            ("CPUQuota", &["20%", "150%"], "0.2", "`20%`"),
            ("CPUWeight", &["1", "10000"], "0", ""),
            ("TasksMax", &["100", "10%", "infinity"], "ten", ""),
            ("Restart", &["always", "on-failure"], "unless-stopped", "`always`"),
            ("TimeoutStopSec", &["10", "10s", "1min 30s", "infinity", "0"], "ten", ""),
            ("RestartSec", &["100ms", "1.5s"], "5 x", ""),
            ("KillSignal", &["SIGINT", "TERM", "9", "SIGRTMIN+3"], "SIGFOO", ""),
            ("KillMode", &["mixed"], "all", ""),
            ("OOMScoreAdjust", &["-500"], "5000", ""),
        ] {
            for value in good {
                assert_eq!(fault(directive, value), None, "{directive}={value}");
            }
            let (_, hint) = fault(directive, bad).unwrap_or_else(|| panic!("{directive}={bad}"));
            assert_eq!(hint.is_some(), !meant.is_empty(), "{directive}={bad}: {hint:?}");
            assert!(hint.unwrap_or_default().contains(meant), "{directive}={bad}");
        }
        assert_eq!(fault("User", "anything"), None);
    }
}
