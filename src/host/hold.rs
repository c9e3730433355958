//! What is held back on a host on purpose: recorded there, so that everybody who applies to it knows.

/// A stack that is held back on a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hold {
    /// Until when, in seconds since 1970; `None` for until it is released.
    pub until: Option<i64>,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// Who holds it.
    pub who: String,
    /// Why; may be empty.
    pub why: String,
}

impl Hold {
    /// The line that says it on the host. Whatever would end a field or the line is a blank there.
    pub fn to_line(&self) -> String {
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let until = self.until.map_or("-".into(), |until| until.to_string());
        format!("{until}\t{}\t{}\t{}", self.since, plain(&self.who), plain(&self.why))
    }

    /// The hold that a line says. A line that nobody can read holds all the same.
    pub fn parse(line: &str) -> Hold {
        let mut fields = line.splitn(4, '\t');
        let mut next = || fields.next().unwrap_or_default();
        let (until, since) = (next().parse().ok(), next().parse().unwrap_or(0));
        Hold { until, since, who: next().into(), why: next().into() }
    }

    /// `held by alice since 2026-11-21 16:00 UTC until 2026-11-22 08:00 UTC: the audit`.
    pub fn words(&self) -> String {
        let until = self.until.map(|until| format!(" until {}", time(until))).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("held by {} since {}{until}{why}", self.who, time(self.since))
    }
}

fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "some time".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hold_is_read_as_it_was_written(until in proptest::option::of(0..1_i64 << 40), since in 0..1_i64 << 40,
            who in "[a-z@ é]{0,9}", why in "[^\\p{C}]{0,20}") {
            let hold = Hold { until, since, who, why };
            prop_assert_eq!(Hold::parse(&hold.to_line()), hold);
        }

        #[test]
        fn a_hold_is_one_line_whatever_is_said(who in any::<String>(), why in any::<String>()) {
            let line = Hold { until: None, since: 1, who, why }.to_line();
            prop_assert!(!line.contains(['\n', '\r', '\0', '\u{1b}']), "{:?}", line);
            prop_assert_eq!(line.matches('\t').count(), 3);
        }
    }

    #[test]
    fn who_since_when_until_when_and_why() {
        let hold = Hold { until: Some(1_800_000_000), since: 1_700_000_000, who: "alice".into(), why: "audit".into() };
        assert_eq!(hold.words(), "held by alice since 2023-11-14 22:13 UTC until 2027-01-15 08:00 UTC: audit");
        assert!(Hold::parse("garbled").until.is_none(), "what cannot be read holds");
    }
}
