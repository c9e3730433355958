//! `reconcile hold` and `reconcile release`: a stack stays as it is on its hosts, whoever applies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, StackName};
use crate::cli::apply::who;
use crate::cli::args;
use crate::cli::failure::error_value;
use crate::cli::page::{ADD, BOLD, PLAIN, Page, REMOVE};
use crate::cli::wire::{Bounds, Parts};
use crate::cli::{Call, wire};
use crate::engine;
use crate::host::hold::Hold;
use crate::load::{Secrets, Selection};

/// Holds a stack.
pub fn hold(call: &Call, options: &args::Hold) -> Result<u8> {
    let hold = Hold {
        until: options.until.map(Timestamp::as_second),
        since: Timestamp::now().as_second(),
        who: who(),
        why: options.why.clone(),
    };
    record(call, &options.stack, Some(&hold), options.lock_wait)
}

/// Releases a stack.
pub fn release(call: &Call, options: &args::Release) -> Result<u8> {
    record(call, &options.stack, None, options.lock_wait)
}

fn record(call: &Call, stack: &str, hold: Option<&Hold>, lock_wait: u32) -> Result<u8> {
    let command = if hold.is_some() { "hold" } else { "release" };
    if !call.common.stacks.is_empty() {
        let error = Error::new(Kind::Usage, format!("`{command}` takes one stack, by its name alone"));
        return Err(error.hint("leave --stack out; call it again for another one"));
    }
    let results = wire::block_on(async {
        let repository = wire::open(call.common, Secrets::Placeholder)?;
        let common = call.common;
        let name = StackName::new(stack).map_err(|why| Error::new(Kind::Usage, why))?;
        let mut selection =
            Selection { hosts: common.hosts.clone(), stacks: vec![stack.into()], tags: common.tags.clone() };
        // What was held may have gone from the repository since.
        let gone = hold.is_none() && !repository.config.stacks.contains_key(&name);
        let unknown = selection.select(&repository.config);
        if gone {
            selection.stacks.clear();
        }
        let chosen = selection.select(&repository.config)?;
        let parts = Parts { hosts: chosen.hosts.into_iter().collect(), stacks: None };
        let live = wire::go_live(call.common, repository, parts, Bounds { lock_wait, ..Bounds::default() })?;
        let lease = format!("{}, {command}, since {}", who(), Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC"));
        let results = engine::hold::record(&live.setup, &name, hold, &lease).await;
        match unknown {
            Err(unknown) if results.values().all(|result| matches!(result, Ok(false))) => Err(unknown),
            _ => Ok(results),
        }
    })?;
    let failed = results.values().filter(|result| result.is_err()).count();
    if call.common.json {
        let hosts = results
            .iter()
            .map(|(host, result)| json!({ "host": host, "error": result.as_ref().err().map(error_value) }));
        let hosts: Vec<_> = hosts.collect();
        call.screen
            .show_json(&json!({ "version": 1, "command": command, "stack": stack, "hold": hold, "hosts": hosts }));
    } else {
        call.screen.show(&text(stack, hold, &results));
    }
    Ok(match failed {
        0 => 0,
        _ if failed == results.len() => 1,
        _ => 3,
    })
}

fn text(stack: &str, hold: Option<&Hold>, results: &BTreeMap<HostName, Result<bool>>) -> Page {
    let mut page = Page::new();
    let what = hold.map_or("released".into(), Hold::words);
    let what = |changed: bool| if changed { &what } else { "not held" };
    for (host, result) in results {
        match result {
            Ok(changed) => page
                .put(ADD, "✓ ")
                .put(BOLD, host.as_str())
                .put(PLAIN, &format!("  {stack} is {}", what(*changed)))
                .end(),
            Err(error) => {
                page.put(REMOVE, "✗ ").put(BOLD, host.as_str()).put(PLAIN, &format!("  {error}")).end();
                if let Some(hint) = &error.hint {
                    page.hint(2, hint);
                }
                &mut page
            }
        };
    }
    page
}
