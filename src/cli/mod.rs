//! Floor 5: the command line. One file per subcommand, and the only place that touches the terminal.

mod adopt;
mod apply;
mod args;
mod ask;
mod check;
mod content;
mod diff;
mod drift;
pub mod failure;
#[cfg(test)]
mod fixtures;
mod history;
mod hold;
mod interrupt;
mod manual;
pub mod origin;
pub mod page;
mod plan;
pub mod plan_json;
pub mod plan_markdown;
pub mod plan_text;
pub mod problems;
pub mod progress;
mod recording;
mod render;
pub mod report;
mod rollback;
mod screen;
mod secret;
mod sections;
mod status;
mod wire;
pub mod words;

use std::ffi::OsString;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;

use crate::base::error::{Error, Kind, Result};
use crate::base::memory;
use args::{Args, Color, Command, Common};
use screen::Screen;

/// One call of the program.
pub(crate) struct Call<'a> {
    /// What every subcommand understands.
    pub common: &'a Common,
    /// Where the reader sits.
    pub screen: &'a Screen,
}

/// Runs the program with its arguments, the first of which is its name. Gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    memory::keep_private();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = Args::told().try_get_matches_from(&arguments).and_then(|matches| Args::from_arg_matches(&matches));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return misunderstood(&error, &arguments),
    };
    let screen = Screen::new(args.common.color);
    progress::log(args.common.verbose, screen.has_color());
    let call = Call { common: &args.common, screen: &screen };
    let code = dispatch(&call, &args.command).unwrap_or_else(|error| fail(&call, &error));
    screen.finish(code)
}

fn dispatch(call: &Call, command: &Command) -> Result<u8> {
    match command {
        Command::Check => check::run(call),
        Command::Render(options) => render::run(call, options),
        Command::Diff(options) => diff::run(call, options),
        Command::Plan(options) => plan::run(call, options),
        Command::Apply(options) => apply::run(call, options),
        Command::Adopt(options) => adopt::run(call, options),
        Command::History(options) => history::run(call, options),
        Command::Rollback(options) => rollback::run(call, options),
        Command::Hold(options) => hold::hold(call, options),
        Command::Release(options) => hold::release(call, options),
        Command::Status => status::run(call),
        Command::Drift(options) => drift::run(call, options),
        Command::Secret { action } => secret::run(call, action),
        Command::Completions { shell } => Ok(manual::completions(call, *shell)),
        Command::Man { command } => manual::man(call, command.as_deref()),
        Command::Reference { chapter } => manual::reference(call, chapter.as_deref()),
    }
}

/// Tells of an error that ends the program.
fn fail(call: &Call, error: &Error) -> u8 {
    if call.common.json {
        call.screen.show_json(&failure::error_json(error));
    } else if error.problems.0.is_empty() {
        call.screen.say(&failure::error_text(error));
    } else {
        call.screen.say_problems(&error.problems);
    }
    failure::exit_code(error)
}

/// Help and version are answers; anything else that clap says is an error of usage.
fn misunderstood(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let screen = Screen::new(Color::Auto);
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && arguments.iter().any(|argument| argument == "--json") {
        let what = error.to_string();
        let what = what.trim_start_matches("error: ").lines().next().unwrap_or_default();
        let error = Error::new(Kind::Usage, what).hint("`reconcile --help` tells what can be said");
        screen.show_json(&failure::error_json(&error));
        return screen.finish(1);
    }
    // Where nobody reads it, there is nothing left to do.
    let _ = error.print();
    u8::from(!asked)
}
