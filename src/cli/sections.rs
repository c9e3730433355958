//! What is to be said of stacks on hosts, each thing once.

use std::collections::BTreeMap;

use crate::base::id::StackName;
use crate::cli::page::Page;
use crate::cli::plan_text::{Layout, transaction_text};
use crate::cli::words::hosts;
use crate::engine::Planned;
use crate::plan::{HostPlan, Transaction};

/// What comes of one stack, on all hosts of which the very same is to be said.
pub struct Section<'a> {
    hosts: Vec<&'a str>,
    stack: &'a StackName,
    /// The first of the hosts.
    pub host: &'a HostPlan,
    /// What is to be done there, as on all of them.
    pub transaction: &'a Transaction,
    /// The same in words.
    pub text: Page,
}

impl Section<'_> {
    /// `web-1, web-2 · shop`.
    pub fn title(&self, full: bool) -> String {
        format!("{} · {}", hosts(&self.hosts, full), self.stack)
    }
}

/// All stacks of all hosts. What is the same on several hosts is said once, where the first of them stands.
pub fn sections(planned: &Planned, layout: Layout) -> Vec<(&HostPlan, Vec<Section<'_>>)> {
    let mut all: Vec<(&HostPlan, Vec<Section>)> = Vec::new();
    let mut known: BTreeMap<(&StackName, bool, String), (usize, usize)> = BTreeMap::new();
    for host in &planned.plan.hosts {
        let mut own = Vec::new();
        for transaction in &host.transactions {
            let mut text = Page::new();
            transaction_text(&mut text, transaction, host, layout);
            let place = (all.len(), own.len());
            let (at, number) = *known.entry((&transaction.stack, host.offline, text.as_str().into())).or_insert(place);
            if let Some((_, sections)) = all.get_mut(at) {
                sections[number].hosts.push(host.host.as_str());
            } else {
                let (hosts, stack) = (vec![host.host.as_str()], &transaction.stack);
                own.push(Section { hosts, stack, host, transaction, text });
            }
        }
        all.push((host, own));
    }
    all
}
