//! What the program says of itself: completions, the manual page, the reference of the language.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::base::diagnostic::did_you_mean;
use crate::base::error::{Error, Kind, Result};
use crate::cli::Call;
use crate::cli::args::Args;
use crate::cli::page::{BOLD, PLAIN, Page};

/// The chapters of the reference: name, and text.
const CHAPTERS: &[(&str, &str)] = &[
    ("hosts-and-stacks", include_str!("../reference/hosts-and-stacks.md")),
    ("resources", include_str!("../reference/language.md")),
    ("host", include_str!("../reference/on-the-host.md")),
];

/// `reconcile completions SHELL`.
pub fn completions(call: &Call, shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "reconcile", &mut script);
    call.screen.show_bytes(&script);
    0
}

/// `reconcile man [COMMAND]`.
pub fn man(call: &Call, command: Option<&str>) -> Result<u8> {
    let mut all = Args::command();
    all.build();
    let page = match command {
        None => all,
        Some(name) => {
            let found = all.find_subcommand(name).cloned();
            let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
            found.ok_or_else(|| unknown("subcommand", name, &names))?
        }
    };
    let mut text = Vec::new();
    let rendered =
        clap_mangen::Man::new(page).source(concat!("reconcile ", env!("CARGO_PKG_VERSION"))).render(&mut text);
    rendered.map_err(|error| Error::new(Kind::Internal, "the manual page cannot be made").because(error))?;
    call.screen.show_bytes(&text);
    Ok(0)
}

/// `reconcile reference [CHAPTER]`. Without a chapter: which there are.
pub fn reference(call: &Call, chapter: Option<&str>) -> Result<u8> {
    let Some(name) = chapter else {
        let mut page = Page::new();
        for (name, text) in CHAPTERS {
            let title = text.lines().next().unwrap_or("").trim_start_matches(['#', ' ']);
            page.put(BOLD, &format!("{name:<18}")).space(1).put(PLAIN, title).end();
        }
        call.screen.show(&page);
        return Ok(0);
    };
    let names: Vec<&str> = CHAPTERS.iter().map(|(name, _)| *name).collect();
    let found = CHAPTERS.iter().find(|(chapter, _)| *chapter == name);
    let (_, text) = found.ok_or_else(|| unknown("chapter", name, &names))?;
    call.screen.show_text(text);
    Ok(0)
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let error = Error::new(Kind::Usage, format!("there is no {what} `{name}`"));
    match did_you_mean(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("{what}s: {}", known.join(", "))),
    }
}
