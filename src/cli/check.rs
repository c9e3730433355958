//! `reconcile check`: load, render and lint. No host is contacted, and no secret is read.

use serde_json::json;

use crate::base::error::Result;
use crate::cli::Call;
use crate::cli::failure::problems_value;
use crate::cli::page::{ADD, PLAIN, Page, count};
use crate::cli::{problems, wire};
use crate::load::Secrets;
use crate::render::render_all;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8> {
    let repository = wire::open(call.common, Secrets::Placeholder)?;
    let chosen = wire::choose(call.common, &repository.config)?;
    let (renderings, warnings) = render_all(&repository.config, &chosen)?;
    let mut problems = repository.warnings;
    problems.extend(warnings);
    let resources: usize = renderings.values().map(|rendering| rendering.desired.resources.len()).sum();
    let waiting: usize = renderings.values().map(|rendering| rendering.waiting.len()).sum();
    if call.common.json {
        call.screen.show_json(&json!({
            "version": 1,
            "command": "check",
            "source": repository.origin,
            "hosts": chosen.hosts,
            "stacks": chosen.stacks,
            "resources": resources,
            "waiting_for_facts": waiting,
            "secret_files": repository.config.sealed.len(),
            "problems": problems_value(&problems),
        }));
        return Ok(0);
    }
    call.screen.say_problems(&problems);
    let mut page = Page::new();
    let (hosts, stacks) = (count(chosen.hosts.len(), "host"), count(chosen.stacks.len(), "stack"));
    page.put(ADD, "ok").put(PLAIN, &format!(": {}", repository.origin.words()));
    page.put(PLAIN, &format!(" · {hosts}, {stacks}, {}", count(resources, "resource")));
    if !problems.0.is_empty() {
        page.put(PLAIN, &format!(" · {}", problems::summary(&problems)));
    }
    page.end();
    if waiting > 0 {
        page.line(&format!("{} waiting for facts of hosts: only a plan shows them", count(waiting, "place")));
    }
    if !repository.config.sealed.is_empty() {
        let files = count(repository.config.sealed.len(), "file");
        page.line(&format!(
            "{files} with secrets: names, form and recipients are looked at; only a plan decrypts them"
        ));
    }
    call.screen.show(&page);
    Ok(0)
}
