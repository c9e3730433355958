//! What the host's own validators said of the candidate, as reasons not to make changes.

use crate::base::id::Kind;
use crate::host::observation::Verdicts;
use crate::plan::effect::Deed;
use crate::plan::{Change, Refusal, Transaction};

/// The oldest Compose that is known to have all the options that are used.
const OLDEST: (u32, u32) = (2, 17);

/// Refuses every change that a validator found fault with. What is only missing so far, such as a program that is
/// deployed later, is a detail and no reason.
pub(crate) fn judge(verdicts: &Verdicts, transactions: &mut [Transaction]) {
    // It may come with this very run.
    let installs = |transaction: &Transaction| {
        transaction.effects.iter().any(|effect| matches!(effect.deed, Deed::Install { .. }))
    };
    let composer = verdicts.compose.as_deref().filter(|_| !transactions.iter().any(installs)).and_then(composer);
    for change in transactions.iter_mut().flat_map(|transaction| &mut transaction.changes) {
        if change.id.kind == Kind::Compose {
            change.refused = change.refused.take().or_else(|| composer.clone());
        }
        for (what, status, output) in &verdicts.checks {
            let refused = match what.split_once(' ').unwrap_or((what.as_str(), "")) {
                ("nginx", _) if touches_nginx(change) => nginx(*status, output),
                ("units", _) => units(change, *status, output),
                ("compose", project) if is_project(change, project) => compose(*status, output),
                _ => None,
            };
            change.refused = change.refused.take().or(refused);
        }
    }
}

/// Why nothing can be done with this version of Compose.
fn composer(version: &str) -> Option<Refusal> {
    let hint = "install Docker's package `docker-compose-plugin`, or the distribution's `docker-compose-v2` (Ubuntu) or \
                `docker-compose` (Debian 13); nothing has been changed";
    let numbers: Vec<u32> = version.split(['.', '-', '+']).map_while(|number| number.parse().ok()).collect();
    let why = match numbers[..] {
        _ if version.is_empty() => "`docker compose` is not there: the host has no Compose v2".to_string(),
        [major, minor, ..] if (major, minor) < OLDEST => {
            format!("Compose {version} there is too old: it must be {}.{} or newer", OLDEST.0, OLDEST.1)
        }
        _ => return None,
    };
    Some(Refusal { why, hint: hint.into() })
}

fn touches_nginx(change: &Change) -> bool {
    change.paths.iter().any(|path| path.path.starts_with("/etc/nginx"))
}

fn is_project(change: &Change, project: &str) -> bool {
    change.id.kind == Kind::Compose && change.id.name == project
}

fn nginx(status: i32, output: &str) -> Option<Refusal> {
    (status != 0).then(|| {
        let fault = output.lines().find(|line| line.contains("[emerg]") || line.contains("[crit]"));
        let fault = fault.or(output.lines().last()).unwrap_or("it said nothing");
        let fault = fault.split_once("] ").map_or(fault, |(_, fault)| fault);
        // Its process and thread are other ones each time: with them, the same plan would have another digest.
        let is_process = |word: &str| word.chars().all(|c| c.is_ascii_digit() || c == '#');
        let fault = fault.split_once(": ").filter(|(word, _)| is_process(word)).map_or(fault, |(_, fault)| fault);
        let why = format!("`nginx -t` on the host refuses the configuration as it would be: {fault}");
        Refusal { why, hint: "mend the site; nothing has been switched".into() }
    })
}

fn compose(status: i32, output: &str) -> Option<Refusal> {
    (status != 0).then(|| {
        let why =
            format!("`docker compose config` on the host refuses the project: {}", output.trim().replace('\n', "; "));
        Refusal { why, hint: "mend the compose file; nothing has been switched".into() }
    })
}

/// The faults that `systemd-analyze verify` finds in this change's units. It names the file or the unit in each line.
fn units(change: &mut Change, status: i32, output: &str) -> Option<Refusal> {
    let in_systemd = change.paths.iter().filter(|path| path.path.starts_with("/etc/systemd"));
    let names: Vec<&str> = in_systemd.filter_map(|path| path.path.file_name()).collect();
    let own = |line: &&str| names.iter().any(|name| names_unit(line, name));
    let (missing, faults): (Vec<&str>, Vec<&str>) = output.lines().filter(own).partition(|line| is_only_missing(line));
    for line in missing {
        let said = line.split_once(": ").map_or(line, |(_, said)| said);
        change.details.push(format!("systemd-analyze: {said}"));
    }
    // Warnings about keys that are ignored come with status 0 from older versions: they are faults all the same.
    let ignored = faults.iter().any(|line| line.contains("ignoring") || line.contains("Unknown"));
    if faults.is_empty() || (status == 0 && !ignored) {
        return None;
    }
    let why = format!("`systemd-analyze verify` on the host: {}", faults.join("; "));
    Some(Refusal { why, hint: "mend the unit; nothing has been switched".into() })
}

/// Whether a name stands in a line for itself, not as the end of a longer one.
fn names_unit(line: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || "-_.@:\\".contains(c);
    line.match_indices(name).any(|(at, _)| !line[..at].ends_with(part_of_name))
}

/// Programs may be deployed by others, after their unit.
fn is_only_missing(line: &str) -> bool {
    line.contains("is not executable") || line.contains("No such file or directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g01_what_nginx_says_is_the_same_each_time() {
        let said = |process: &str| {
            format!("nginx: [emerg] {process}unknown directive \"x\" in /etc/nginx/a.conf:3\nnginx: failed")
        };
        let why = |process| nginx(1, &said(process)).expect("it is refused").why;
        assert_eq!(why("3023#3023: "), why("3078#3078: "));
        assert_eq!(why("3023#3023: "), why(""));
        assert!(why("").ends_with(": unknown directive \"x\" in /etc/nginx/a.conf:3"), "{}", why(""));
    }
}
