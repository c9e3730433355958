//! `Config` to `Desired`: every resource of a host, fully written out, and every mistake that only shows there.
//!
//! Nothing here asks a host. What a text takes from facts is left out while they are unknown, and said to be missing.

mod clash;
mod colours;
pub mod compare;
mod lower;
mod names;
mod needs;
mod ports;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::diagnostic::{Problems, Span};
use crate::base::error::{Error, Result};
use crate::base::id::HostName;
use crate::load::{Chosen, Config, sorted};
use crate::resource::Desired;

/// What one host should be, as far as it can be told.
#[derive(Debug, Clone)]
pub struct Rendering {
    /// Every resource that could be written out.
    pub desired: Desired,
    /// What is wrong, errors and warnings, sorted by place.
    pub problems: Problems,
    /// The resources, or stacks as a whole, that take facts which were not given. While there are any, `desired` lacks
    /// something: it must not be applied.
    pub waiting: Vec<Span>,
}

impl Rendering {
    /// Whether it must be rendered again, with facts.
    pub fn needs_facts(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What the host should be, with warnings; or all problems, if one of them is an error. A rendering that still waits
    /// for facts is an error of the program: `desired` would pass for the whole.
    pub fn into_result(self) -> Result<(Desired, Problems)> {
        if self.problems.errors() > 0 {
            return Err(Error::problems(self.problems));
        }
        if self.needs_facts() {
            let what = format!("the facts of `{}` were not asked for", self.desired.host);
            return Err(Error::new(crate::base::error::Kind::Internal, what));
        }
        Ok((self.desired, self.problems))
    }
}

/// Writes out everything that `host` should be. A host that the config does not have should be nothing.
pub fn render(config: &Config, host: &HostName, facts: Option<&Value>) -> Rendering {
    let mut lowered = lower::lower(config, host, facts);
    let resources = &mut lowered.resources;
    resources.sort_by(|a, b| a.id.cmp(&b.id));
    let mut problems = lowered.problems;
    // A resource that could not be written out is missing here. What others miss because of that is no mistake of theirs.
    let complete = lowered.waiting.is_empty() && problems.errors() == 0;
    clash::check(resources, &mut problems);
    ports::check(resources, &mut problems);
    needs::fill(config, host, resources);
    needs::check(resources, complete, &mut problems);
    wiring::check(resources, complete, &mut problems);
    colours::check(resources, complete, &mut problems);
    let desired = Desired { host: host.clone(), resources: lowered.resources };
    Rendering { desired, problems: sorted(problems), waiting: lowered.waiting }
}

/// Every chosen host without its facts, for work that contacts none; or all problems of all of them. The problems that
/// come with the renderings are warnings, each said once, however many hosts it is about. All stacks of a host are
/// there, chosen or not: a host is a whole.
pub fn render_all(config: &Config, chosen: &Chosen) -> Result<(BTreeMap<HostName, Rendering>, Problems)> {
    let mut problems = Problems::default();
    let (mut renderings, mut said) = (BTreeMap::new(), BTreeSet::new());
    for host in &chosen.hosts {
        let rendering = render(config, host, None);
        for problem in &rendering.problems.0 {
            // Hints may name what one host has and another lacks: the mistake is the same.
            let places: Vec<String> = problem.places.iter().map(|(span, _)| span.to_string()).collect();
            if said.insert((problem.message.clone(), places)) {
                problems.push(problem.clone());
            }
        }
        renderings.insert(host.clone(), rendering);
    }
    let problems = sorted(problems);
    if problems.errors() > 0 { Err(Error::problems(problems)) } else { Ok((renderings, problems)) }
}

#[cfg(test)]
mod tests;
