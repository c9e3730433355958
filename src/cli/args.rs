//! The words of the command line.

use std::path::PathBuf;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Arg, ArgAction, Args as Group, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use crate::base::id::ResourceId;
use crate::load::{self, Size};

/// What the exit code says.
const EXIT_CODES: &str = "\
Example: reconcile plan --host web-1

Exit codes:
  0  done, or nothing to do
  1  error, refused, failed, or declined at the question
  2  plan, drift and diff with --detailed-exitcode: there are changes
  3  some hosts done and some not
  4  no host is done, and all that went wrong was rolled back
  130, 143  stopped by Ctrl-C, or by TERM";

/// Makes ordinary Linux servers match a Git repository, over plain SSH.
#[derive(Debug, Parser)]
#[command(name = "reconcile", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Args {
    /// What every subcommand understands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// The command line as it tells of itself: on one page, and the options of every command only with the program.
    pub fn told() -> clap::Command {
        let help = Arg::new("help").short('h').long("help").help("Print help").help_heading(None);
        let help = help.action(ArgAction::HelpShort).global(true);
        let command = Args::command().disable_help_flag(true);
        let common: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        // Where a command has it already, clap does not add it once more.
        let common: Vec<Arg> = common.into_iter().map(|arg| arg.hide(true)).collect();
        let own = |sub: clap::Command| sub.args(common.clone());
        command.arg(help).mut_subcommands(|sub| own(sub).mut_subcommands(own))
    }
}

/// What every subcommand understands.
#[derive(Debug, Clone, Group)]
#[command(next_help_heading = "Options of every command")]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of the command line.
pub struct Common {
    /// The repository; without it the nearest directory above that has stacks/ and hosts/
    #[arg(long, global = true, env = "RECONCILE_REPO", hide_env_values = true, value_name = "DIR|URL[@REV]")]
    pub repo: Option<String>,
    /// Only this host (may be given again)
    #[arg(long = "host", global = true, value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Only this stack (may be given again)
    #[arg(long = "stack", global = true, value_name = "NAME")]
    pub stacks: Vec<String>,
    /// Only hosts with this tag (may be given again)
    #[arg(long = "tag", global = true, value_name = "TAG")]
    pub tags: Vec<String>,
    /// A key that opens secrets, of age or SSH (may be given again)
    #[arg(
        long = "identity",
        global = true,
        env = "RECONCILE_AGE_IDENTITY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub identities: Vec<Utf8PathBuf>,
    /// JSON on standard output, for errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell on standard error what is done; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// How many hosts to work on at the same time
    #[arg(long, global = true, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub parallel: u16,
    /// Never ask anything
    #[arg(long, global = true)]
    pub no_input: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load, render and lint; no host is contacted
    #[command(after_help = "Example: reconcile check")]
    Check,
    /// Every file that would be written, as files
    #[command(after_help = "Example: reconcile render --out /tmp/rendered")]
    Render(Render),
    /// What a commit changes, without any host
    #[command(after_help = "Example: reconcile diff HEAD~1..HEAD")]
    Diff(Diff),
    /// What would change, why, and with what effect
    #[command(after_help = "Example: reconcile plan --stack web")]
    Plan(Plan),
    /// Plan, ask, do
    #[command(after_help = "Example: reconcile apply --expect 84757998fc63")]
    Apply(Apply),
    /// Write a stack for what runs on a host, and take it over as it is
    #[command(after_help = "Example: reconcile adopt web-1")]
    Adopt(Adopt),
    /// The runs of this repository that were made from here
    #[command(after_help = "Example: reconcile history last")]
    History(History),
    /// Go back to the state before a run, by its commit
    #[command(after_help = "Example: reconcile rollback last")]
    Rollback(Rollback),
    /// Keep a stack as it is on its hosts, whoever applies
    #[command(after_help = "Example: reconcile hold web --until 2h --why 'the audit'")]
    Hold(Hold),
    /// Let a stack that was held be applied again
    #[command(after_help = "Example: reconcile release web")]
    Release(Release),
    /// Where each host and stack stands
    #[command(after_help = "Example: reconcile status --tag web")]
    Status,
    /// What differs on the hosts from what was last written there
    #[command(after_help = "Example: reconcile drift --detailed-exitcode")]
    Drift(Drift),
    /// Secrets encrypted in the repository, with age
    #[command(after_help = "Example: reconcile secret encrypt stacks/web/secrets.yaml db <password")]
    Secret {
        /// What to do
        #[command(subcommand)]
        action: Secret,
    },
    /// Completions for a shell
    #[command(after_help = "Example: reconcile completions bash >/etc/bash_completion.d/reconcile")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The manual page, of one subcommand if wanted
    #[command(after_help = "Example: reconcile man apply | man -l -")]
    Man {
        /// The subcommand
        command: Option<String>,
    },
    /// The reference of the language, a chapter if wanted
    #[command(after_help = "Example: reconcile reference hosts-and-stacks")]
    Reference {
        /// The chapter
        chapter: Option<String>,
    },
}

/// What `--adopt` does.
const ADOPT: &str = "Take over a resource that is there and not ours, such as file:/etc/motd (may be given again)";

/// `reconcile render`.
#[derive(Debug, Group)]
pub struct Render {
    /// Write the files below this directory, one directory per host. It must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `reconcile diff`.
#[derive(Debug, Group)]
pub struct Diff {
    /// Two revisions
    #[arg(value_name = "REV..REV")]
    pub range: String,
    /// Exit with 2 if there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Do not cut long diffs, and show new files whole
    #[arg(long)]
    pub full: bool,
}

/// `reconcile plan`.
#[derive(Debug, Group)]
pub struct Plan {
    /// Exit with 2 if there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Markdown, for a pull request
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Resources that may be taken over although they are there and not ours.
    #[arg(long, value_name = "KIND:NAME", help = ADOPT)]
    pub adopt: Vec<ResourceId>,
    /// Do not cut long diffs, and show new files whole
    #[arg(long)]
    pub full: bool,
    /// In which waves.
    #[command(flatten)]
    pub waves: Waves,
}

/// `reconcile apply`.
#[derive(Debug, Group)]
pub struct Apply {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Do exactly the plan with this digest, and without asking (at least 6 digits of it)
    #[arg(long, value_name = "DIGEST", value_parser = expectation)]
    pub expect: Option<String>,
    /// As --expect, and that plan may go beyond the limits, and remove or stop what is protected
    #[arg(long = "override", value_name = "DIGEST", value_parser = expectation, conflicts_with = "expect")]
    pub override_plan: Option<String>,
    /// Resources that may be taken over although they are there and not ours.
    #[arg(long, value_name = "KIND:NAME", help = ADOPT)]
    pub adopt: Vec<ResourceId>,
    /// Do not cut long diffs, and show new files whole
    #[arg(long)]
    pub full: bool,
    /// How long to wait for another run on the same host
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_wait: u32,
    /// How long a host waits to be reached again before it goes back by itself; 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub confirm: u32,
    /// In which waves.
    #[command(flatten)]
    pub waves: Waves,
}

/// How to go over hosts, where it is to be otherwise than the repository's `rollout` says.
#[derive(Debug, Clone, Default, Group)]
pub struct Waves {
    /// This host before all others (may be given again)
    #[arg(long, value_name = "HOST")]
    pub canary: Vec<String>,
    /// So many hosts at a time, or such a share of those with changes
    #[arg(long, value_name = "N|P%")]
    pub batch: Option<Size>,
    /// How long to wait between waves, such as 30s
    #[arg(long, value_name = "TIME", value_parser = load::pause)]
    pub pause: Option<Duration>,
}

/// `reconcile secret`.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Make an identity, and list its recipient in secrets/recipients
    #[command(after_help = "Example: reconcile secret init")]
    Init {
        /// Where to; without it ~/.config/reconcile/identity. A file that is there is never overwritten
        #[arg(long, value_name = "FILE")]
        to: Option<Utf8PathBuf>,
    },
    /// Encrypt a secret from standard input (or the terminal, or a file) for all recipients
    #[command(after_help = "Example: reconcile secret encrypt stacks/web/secrets.yaml db <password")]
    Encrypt {
        /// The file of the repository to write
        file: Utf8PathBuf,
        /// The name of the secret, in a file of several. Without it, the file is this one secret
        name: Option<String>,
        /// Where to read the secret
        #[arg(long, value_name = "FILE")]
        from: Option<Utf8PathBuf>,
    },
    /// Change secrets in $VISUAL or $EDITOR
    #[command(after_help = "Example: reconcile secret edit stacks/web/secrets.yaml")]
    Edit {
        /// The file of the repository
        file: Utf8PathBuf,
    },
    /// Show a secret on standard output
    #[command(after_help = "Example: reconcile secret view stacks/web/secrets.yaml db")]
    View {
        /// The file of the repository
        file: Utf8PathBuf,
        /// The name of the secret, in a file of several. Without it, all of them
        name: Option<String>,
    },
    /// Encrypt everything anew, for those who are recipients now
    #[command(after_help = "Example: reconcile secret rekey")]
    Rekey,
}

/// `reconcile adopt`.
#[derive(Debug, Group)]
pub struct Adopt {
    /// The host. The stack is called adopted-HOST, unless --stack gives it another name
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Only this resource, such as unit:go-api (may be given again)
    #[arg(long, value_name = "KIND:NAME")]
    pub only: Vec<ResourceId>,
    /// Take over without asking
    #[arg(long, short, conflicts_with = "json")]
    pub yes: bool,
}

/// `reconcile history`.
#[derive(Debug, Group)]
pub struct History {
    /// One run in full: its id, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// The runs of other repositories, too
    #[arg(long)]
    pub all: bool,
    /// How many runs to list
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "run")]
    pub limit: usize,
}

/// `reconcile rollback`.
#[derive(Debug, Group)]
pub struct Rollback {
    /// The run to go back before: its id, the beginning of it, or `last` of this repository
    #[arg(value_name = "RUN")]
    pub run: String,
    /// It is applied like any other plan.
    #[command(flatten)]
    pub apply: Apply,
}

/// `reconcile hold`.
#[derive(Debug, Group)]
pub struct Hold {
    /// The stack
    #[arg(value_name = "STACK")]
    pub stack: String,
    /// Until when: a time such as 2026-11-22T08:00, or a span such as 2h or 3d. Without it, until it is released
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Why, for everybody who wonders
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
    /// How long to wait for a run on the same host
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_wait: u32,
}

/// `reconcile release`.
#[derive(Debug, Group)]
pub struct Release {
    /// The stack
    #[arg(value_name = "STACK")]
    pub stack: String,
    /// How long to wait for a run on the same host
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_wait: u32,
}

/// `reconcile drift`.
#[derive(Debug, Group)]
pub struct Drift {
    /// Exit with 2 if there is any
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Do not cut long diffs
    #[arg(long)]
    pub full: bool,
}

/// A moment to come: a time with its zone, one of the zone here, or a span from now on.
fn moment(text: &str) -> Result<Timestamp, String> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp());
    let span = || Zoned::now().checked_add(text.parse::<Span>().ok()?).ok().map(|zoned| zoned.timestamp());
    let moment = text.parse().ok().or_else(local).or_else(span);
    let moment =
        moment.ok_or("a time is written as 2026-11-22T08:00 (with Z or +01:00 if wanted), or as a span: 2h, 3d")?;
    if moment <= Timestamp::now() { Err("that is over already".into()) } else { Ok(moment) }
}

/// The beginning of a plan's digest.
fn expectation(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('…').to_lowercase();
    if !text.chars().all(|c| c.is_ascii_hexdigit()) || text.len() > 64 {
        return Err("a digest has only the digits 0-9 and a-f, at most 64".into());
    }
    if text.len() < 6 {
        return Err(format!("{} digits are too few to name a plan: at least 6", text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    /// Every command with the words that call it.
    fn commands(of: &clap::Command, words: &[&str], found: &mut Vec<(String, clap::Command)>) {
        for sub in of.get_subcommands() {
            let words = [words, &[sub.get_name()]].concat();
            found.push((words.join(" "), sub.clone()));
            commands(sub, &words, found);
        }
    }

    #[test]
    fn every_command_tells_of_itself_on_one_page_and_with_an_example_that_works() {
        let (told, mut all) = (Args::told(), Vec::new());
        commands(&told, &["reconcile"], &mut all);
        assert!(all.len() > 15, "{}", all.len());
        for (words, command) in all {
            let help = command.clone().render_help().to_string();
            assert!(help.lines().count() <= 40, "{words}:\n{help}");
            assert!(!help.contains("--parallel"), "what every command takes is told once: {words}\n{help}");
            let example = help.lines().rev().find_map(|line| line.strip_prefix("Example: ")).unwrap_or_default();
            assert!(example.starts_with(&words), "{words}: {example}");
            let example = example.split(['<', '>', '|']).next().unwrap_or_default().replace("'the audit'", "audit");
            let parsed = Args::told().try_get_matches_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
        let help = told.clone().render_help().to_string();
        assert!(help.contains("--parallel") && help.lines().all(|line| line.len() <= 135), "{help}");
    }

    #[test]
    fn digests_are_named_by_six_digits_or_more() {
        assert_eq!(expectation("7C1D0e…"), Ok("7c1d0e".into()));
        assert!(expectation("7c1d0").is_err() && expectation("7c1d0g").is_err());
    }
}
