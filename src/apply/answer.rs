//! What a host says while it applies, line by line.

use std::collections::BTreeMap;

use crate::base::id::StackName;

/// How many bytes of an answer are heard. The program itself says far less, however much its commands say.
const MOST: usize = 16 << 20;

/// How one transaction ended on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As planned.
    Applied,
    /// Something failed and everything was brought back.
    RolledBack,
    /// Something failed and not everything could be brought back.
    Failed,
    /// Not begun: the host had changed since it was planned.
    Stale,
    /// Not begun: a transaction it needs did not go well.
    Blocked,
    /// Not begun: we wanted no further transaction to begin.
    Skipped,
}

/// What is known of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// How it ended; `None` while it has not.
    pub ending: Option<Ending>,
    /// The number of the step that failed, where it has one.
    pub failed_step: Option<usize>,
    /// What failed, or what else was wrong.
    pub failed: Option<String>,
    /// What it said.
    pub output: Vec<String>,
    /// It went well, and what was to be stopped for good after that is, or that failed.
    pub parted: bool,
}

/// What a host has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Each transaction.
    pub courses: BTreeMap<StackName, Course>,
    /// The dead runs that were found, each with the stacks that went back and how that ended.
    pub recovered: Vec<(String, BTreeMap<StackName, Course>)>,
    /// Who holds the lock, where we did not get it.
    pub locked: Option<String>,
    /// What was wrong before any transaction began.
    pub broken: Option<String>,
    /// The step being done.
    pub step: Option<usize>,
    /// The host waits for our confirmation.
    pub wants_confirmation: bool,
    /// No confirmation came in time, and the host has gone back.
    pub unconfirmed: bool,
    /// The program came to its end.
    pub ended: bool,
    current: Option<StackName>,
    stale: Option<String>,
    partial: Vec<u8>,
    heard: usize,
}

impl Course {
    /// A step failed: its line, as it was sent.
    fn fail(&mut self, step: &str) {
        let mut fields = step.split('\t');
        let (verb, number) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if matches!(verb, "run" | "watch" | "check" | "unmoved") {
            self.failed_step = number.parse().ok();
        }
        self.failed = Some(step.replace('\t', " "));
    }
}

impl Answer {
    /// Takes in more of what the host says, up to 16 MiB: a host that says more never comes to its end.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.heard = self.heard.saturating_add(bytes.len());
        if self.heard > MOST {
            self.partial = Vec::new();
            return;
        }
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
                self.line(&line);
            } else {
                self.partial.push(*byte);
            }
        }
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "locked" => self.locked = Some(rest.into()),
            "broken" => self.broken = Some(rest.into()),
            "recovering" => self.recovered.push((rest.into(), BTreeMap::new())),
            "transaction" => self.current = StackName::new(rest).ok(),
            "step" => self.step = rest.parse().ok(),
            "stale" => self.stale = Some(rest.into()),
            "failed" => self.course(Course::fail, rest),
            "|" => self.course(|course, rest| course.output.push(rest.into()), rest),
            "reverting" => self.current = StackName::new(rest).ok(),
            "parting" => {
                self.current = StackName::new(rest).ok();
                self.course(|course, _| course.parted = true, rest);
            }
            "outcome" => self.outcome(rest),
            "confirm" => self.wants_confirmation = true,
            "unconfirmed" => self.unconfirmed = true,
            "end" | "[end]" => self.ended = true,
            _ => {}
        }
    }

    fn course(&mut self, change: impl FnOnce(&mut Course, &str), rest: &str) {
        if let Some(stack) = self.current.clone() {
            change(self.courses_of_now().entry(stack).or_default(), rest);
        }
    }

    fn courses_of_now(&mut self) -> &mut BTreeMap<StackName, Course> {
        self.recovered.last_mut().map_or(&mut self.courses, |(_, courses)| courses)
    }

    fn outcome(&mut self, line: &str) {
        let Some((stack, word)) = line.split_once(' ') else { return };
        let Ok(stack) = StackName::new(stack) else { return };
        let stale = self.stale.take();
        let course = self.courses_of_now().entry(stack).or_default();
        course.ending = match word {
            "applied" => Some(Ending::Applied),
            "rolled-back" => Some(Ending::RolledBack),
            "failed" => Some(Ending::Failed),
            "stale" => {
                course.failed = stale;
                Some(Ending::Stale)
            }
            "blocked" => Some(Ending::Blocked),
            "skipped" => Some(Ending::Skipped),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_dead_runs_is_told_of_each() {
        let mut answer = Answer::default();
        answer.hear(b"recovering 1\nreverting web\n| not there\noutcome web failed\nrecovering 2\nend\n");
        let failed = Course { ending: Some(Ending::Failed), output: vec!["not there".into()], ..Course::default() };
        let web = (StackName::new("web").unwrap(), failed);
        assert_eq!(answer.recovered, [("1".into(), BTreeMap::from([web])), ("2".into(), BTreeMap::new())]);
        assert!(answer.ended && answer.courses.is_empty());
    }

    #[test]
    fn g13_a_host_that_never_stops_talking_is_not_heard_to_the_end() {
        let mut answer = Answer::default();
        answer.hear(b"transaction web\nfailed x\n");
        for _ in 0..20 {
            answer.hear(&vec![b'x'; 1 << 20]);
        }
        answer.hear(b"\nend\n");
        assert!(!answer.ended && answer.partial.is_empty());
        assert_eq!(answer.courses.len(), 1);
    }
}
