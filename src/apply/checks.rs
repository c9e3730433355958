//! The checks of a transaction as steps of `apply.sh`.

use std::time::Duration;

use crate::apply::commands::Command;
use crate::apply::script::{Script, Writer};
use crate::base::error::Result;
use crate::plan::Transaction;
use crate::plan::effect::Deed;
use crate::resource::{Check, Patience, Probe};

impl Writer<'_> {
    /// The steps that see whether all works.
    pub(super) fn checks(&mut self, script: &mut Script, transaction: &Transaction) -> Result<()> {
        let mut active: Vec<String> = Vec::new();
        let (mut longest, mut most) = (0, Patience { steady: Duration::ZERO, restarts: 0 });
        for (_, Check { probe, within }) in &transaction.checks {
            if let Probe::Active { unit, patience } = probe {
                active.push(unit.clone());
                longest = longest.max(whole_seconds(*within));
                most.steady = most.steady.max(patience.steady);
                most.restarts = most.restarts.max(patience.restarts);
            }
        }
        if !active.is_empty() {
            // One look at all units together: each look ends with a pause to see whether they stay up.
            active.sort();
            active.dedup();
            let words = format!("check that {} stays active", active.join(", "));
            let head = ["active".to_string(), format!("{:.1}", most.steady.as_secs_f64()), most.restarts.to_string()];
            self.numbered(script, words, "check", &Command::of(longest, [&head[..], &active].concat()))?;
        }
        for (id, check) in &transaction.checks {
            if let Some(fields) = containers(check) {
                let words = [vec!["containers".to_string()], fields].concat();
                let command = Command::of(whole_seconds(check.within), words);
                self.numbered(script, format!("check the containers of {}", id.name), "check", &command)?;
            }
        }
        for (id, Check { probe, within }) in &transaction.checks {
            let (words, fields) = match probe {
                Probe::Active { .. } | Probe::Containers { .. } => continue,
                Probe::Http { url, host } => {
                    let host = host.clone().unwrap_or_else(|| "-".into());
                    (format!("check {url}"), vec!["http".into(), url.clone(), host])
                }
                Probe::Tcp { host, port } => {
                    (format!("check {host}:{port}"), vec!["tcp".into(), host.clone(), port.to_string()])
                }
                Probe::Command(words) => {
                    (format!("check {}", words.join(" ")), [vec!["command".to_string()], words.clone()].concat())
                }
            };
            self.numbered(script, format!("{words} for {id}"), "check", &Command::of(whole_seconds(*within), fields))?;
        }
        Ok(())
    }
}

fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000).max(1)).unwrap_or(u32::MAX)
}

/// How the containers of a project are looked at: the project, within how many seconds they must work, for how many they
/// must run, how often they may be started again, and which services.
fn containers(check: &Check) -> Option<Vec<String>> {
    let Probe::Containers { project, services, patience } = &check.probe else { return None };
    let steady = patience.steady.as_millis().div_ceil(1000);
    let numbers = [whole_seconds(check.within).to_string(), steady.to_string(), patience.restarts.to_string()];
    Some([&[project.clone()][..], &numbers, &[services.join(",")]].concat())
}

/// The same for what a deed starts, where that is looked at.
pub(super) fn watched(transaction: &Transaction, deed: &Deed) -> Option<Vec<String>> {
    let (project, _) = deed.starts_containers()?;
    let mut all = transaction.checks.iter().filter_map(|(_, check)| containers(check));
    all.find(|fields| fields.first().is_some_and(|of| of == project))
}
