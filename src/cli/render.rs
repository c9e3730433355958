//! `reconcile render`: every file that would be written, as files. No host is contacted, and no secret is read: where
//! one belongs stands a placeholder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::base::id::HostName;
use crate::cli::args::Render;
use crate::cli::page::{BOLD, DIM, PLAIN, Page, count};
use crate::cli::{Call, content, wire};
use crate::load::Secrets;
use crate::render::{Rendering, render_all};
use crate::resource::state::PathState;

/// One path on one host.
type Entry<'a> = (&'a HostName, &'a Utf8Path, &'a PathState);

/// Runs the command.
pub fn run(call: &Call, options: &Render) -> Result<u8> {
    let repository = wire::open(call.common, Secrets::Placeholder)?;
    let chosen = wire::choose(call.common, &repository.config)?;
    let (renderings, mut warnings) = render_all(&repository.config, &chosen)?;
    warnings.extend(repository.warnings);
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (host, rendering) in &renderings {
        let resources = rendering.desired.resources.iter().filter(|resource| chosen.stacks.contains(&resource.stack));
        let paths = resources.flat_map(|resource| &resource.state.paths);
        entries.extend(paths.map(|(path, state)| (host, path.as_path(), state)));
    }
    if !call.common.json {
        call.screen.say_problems(&warnings);
        say_waiting(call, renderings.values());
    }
    match &options.out {
        Some(out) => write_all(out, &entries)?,
        None if call.common.json => {}
        None => show_all(call, &entries),
    }
    if call.common.json {
        let paths: Vec<Value> = entries.iter().map(|entry| entry_value(entry, options.out.is_none())).collect();
        call.screen.show_json(&json!({
            "version": 1, "command": "render", "source": repository.origin, "paths": paths,
        }));
    } else if let Some(out) = &options.out {
        let mut page = Page::new();
        let hosts = count(renderings.len(), "host");
        page.line(&format!("{} of {hosts} below {}", count(entries.len(), "path"), out.display()));
        call.screen.show(&page);
    }
    Ok(0)
}

fn say_waiting<'a>(call: &Call, renderings: impl Iterator<Item = &'a Rendering>) {
    let waiting: usize = renderings.map(|rendering| rendering.waiting.len()).sum();
    if waiting > 0 {
        let mut page = Page::new();
        page.line(&format!("note: {} left out: they ask for facts of hosts", count(waiting, "place")));
        call.screen.say(&page);
    }
}

fn entry_value((host, path, state): &Entry<'_>, with_content: bool) -> Value {
    let mut value = json!({ "host": host, "path": path, "kind": content::thing(state) });
    match state {
        PathState::File { content, mode, owner } => {
            value["mode"] = json!(format!("{mode:04o}"));
            value["owner"] = json!(content::owner_words(owner));
            value["secret"] = json!(content.secret);
            if with_content {
                value["content"] = json!(String::from_utf8_lossy(&content.bytes));
            }
        }
        PathState::Directory { mode, owner } => {
            value["mode"] = json!(format!("{mode:04o}"));
            value["owner"] = json!(content::owner_words(owner));
        }
        PathState::Link { target } => value["target"] = json!(target),
    }
    value
}

/// Every file with a line before it that says where it goes.
fn show_all(call: &Call, entries: &[Entry<'_>]) {
    for (host, path, state) in entries {
        let about = match state {
            PathState::File { content, mode, owner } if content.secret => {
                format!("{}, with secrets", content::access(*mode, owner))
            }
            PathState::File { mode, owner, .. } => content::access(*mode, owner),
            PathState::Directory { mode, owner } => format!("directory, {}", content::access(*mode, owner)),
            PathState::Link { target } => format!("→ {target}"),
        };
        let mut page = Page::new();
        page.put(BOLD, &format!("==> {host}:{path}")).put(DIM, &format!(" ({about})")).put(BOLD, " <==").end();
        call.screen.show(&page);
        if let PathState::File { content, .. } = state {
            show_content(call, &content.bytes);
        }
    }
}

/// The bytes themselves; on a terminal made harmless.
fn show_content(call: &Call, bytes: &[u8]) {
    if call.screen.is_terminal {
        let mut page = Page::new();
        for line in String::from_utf8_lossy(bytes).lines() {
            page.put(PLAIN, line).end();
        }
        page.end();
        call.screen.show(&page);
    } else {
        call.screen.show_bytes(bytes);
        call.screen.show_bytes(if bytes.ends_with(b"\n") || bytes.is_empty() { b"\n" } else { b"\n\n" });
    }
}

/// Writes everything below `out`, which must be empty: what lies there already might lead elsewhere.
fn write_all(out: &Path, entries: &[Entry<'_>]) -> Result<()> {
    let cannot = |path: &Path, error: std::io::Error| {
        Error::new(Kind::Usage, format!("{} cannot be written", path.display())).because(error)
    };
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        let error = Error::new(Kind::Usage, format!("{} is not empty", out.display()));
        return Err(error.hint("name a directory that is empty or does not exist"));
    }
    fs::create_dir_all(out).map_err(|error| cannot(out, error))?;
    // Links come last: nothing is written through them.
    let (links, others): (Vec<_>, Vec<_>) =
        entries.iter().partition(|(_, _, state)| matches!(state, PathState::Link { .. }));
    for (host, path, state) in others.into_iter().chain(links) {
        let place = place(out, host, path)?;
        write_one(&place, state).map_err(|error| cannot(&place, error))?;
    }
    Ok(())
}

fn place(out: &Path, host: &HostName, path: &Utf8Path) -> Result<PathBuf> {
    let below = Path::new(path.as_str().trim_start_matches('/'));
    if below.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Error::new(Kind::Internal, format!("{path} is no plain path")));
    }
    Ok(out.join(host.as_str()).join(below))
}

fn write_one(place: &Path, state: &PathState) -> std::io::Result<()> {
    if let Some(above) = place.parent() {
        fs::create_dir_all(above)?;
    }
    match state {
        PathState::File { content, .. } => fs::write(place, &content.bytes),
        PathState::Directory { .. } => fs::create_dir_all(place),
        PathState::Link { target } => std::os::unix::fs::symlink(target, place),
    }
}
