//! Deeds as the words of commands. What the plan prints and what runs come from the same data.

use crate::plan::effect::Deed;

/// A command: its deadline in seconds, then its words. No shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// How long it may take.
    pub seconds: u32,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Whether it starts containers, so that one can see how they do while it is at work.
    pub starts: bool,
}

impl Command {
    fn new(seconds: u32, words: &[&str], more: &[String]) -> Self {
        let words = words.iter().map(|word| (*word).to_string()).chain(more.iter().cloned()).collect();
        Command::of(seconds, words)
    }

    /// A command of these words.
    pub fn of(seconds: u32, words: Vec<String>) -> Self {
        Command { seconds, words, starts: false }
    }

    fn starting(self) -> Self {
        Command { starts: true, ..self }
    }

    fn systemctl(seconds: u32, verb: &str, units: &[String]) -> Self {
        Command::new(seconds, &["systemctl", verb, "--"], units)
    }

    /// Stops or disables what is retired.
    pub(super) fn to_units(verb: &str, units: &[String]) -> Self {
        if verb == "stop" { Command::systemctl(120, verb, units) } else { Command::switch(verb, units) }
    }

    /// Enables or disables. The daemon-reload that systemctl would add is an effect of its own, once for all.
    fn switch(verb: &str, units: &[String]) -> Self {
        Command::new(60, &["systemctl", "--no-reload", verb, "--"], units)
    }
}

/// The commands that do a deed.
pub fn commands(deed: &Deed) -> Vec<Command> {
    match deed {
        // By the time a script runs, images are there.
        Deed::Build { .. } | Deed::Transfer { .. } | Deed::Pull { .. } | Deed::Discard { .. } => Vec::new(),
        // A turn is the reload of nginx that comes with it; what is retired goes by steps of its own.
        Deed::Turn { .. } => Vec::new(),
        Deed::Retire { services, project, .. } => {
            let project = project.iter().filter(|_| !services.is_empty());
            let remove = |project: &String| {
                Command::new(180, &["docker", "compose", "-p", project.as_str(), "rm", "-s", "-f"], services)
            };
            project.map(remove).collect()
        }
        Deed::Install { packages } => install(packages),
        Deed::Stop { units } => vec![Command::systemctl(120, "stop", units)],
        Deed::Disable { units } => vec![Command::switch("disable", units)],
        Deed::DaemonReload => vec![Command::new(60, &["systemctl", "daemon-reload"], &[])],
        Deed::Enable { units } => vec![Command::switch("enable", units)],
        Deed::Reenable { units } => vec![Command::switch("reenable", units)],
        Deed::Start { units } => vec![Command::systemctl(120, "start", units)],
        Deed::Restart { units } => vec![Command::systemctl(180, "restart", units)],
        Deed::Reload { units } => vec![Command::systemctl(120, "reload", units)],
        Deed::Bring { units } => vec![Command::systemctl(120, "reload-or-restart", units)],
        Deed::Signal { unit, signal } => {
            vec![Command::new(30, &["systemctl", "kill", "--kill-whom=main", "-s", signal, "--", unit], &[])]
        }
        Deed::ComposeDown { project, .. } => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "down"], &[])]
        }
        Deed::ComposeStop { project, services } => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "stop"], services)]
        }
        Deed::ContainerRestart { project, services } => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "restart"], services).starting()]
        }
        Deed::ContainerRecreate { services, .. } => {
            let mut words = compose(deed);
            words.extend(["up", "-d", "--no-deps", "--force-recreate"].map(String::from));
            words.extend(services.iter().cloned());
            vec![Command::of(300, words).starting()]
        }
        Deed::ContainerSignal { project, service, signal } => {
            vec![Command::new(30, &["docker", "compose", "-p", project, "kill", "-s", signal, service], &[])]
        }
        Deed::ComposeUp { project, build, create, recreate, start, unpause, remove, .. } => {
            // By name, for `--remove-orphans` would take along what somebody else has put into the project. First, for
            // what goes may hold a port that what comes wants.
            let named = |seconds, verb: &[&str], services: &[String]| {
                let words = [&["docker", "compose", "-p", project][..], verb].concat();
                (!services.is_empty()).then(|| Command::new(seconds, &words, services))
            };
            let (remove, unpause) = (named(180, &["rm", "-s", "-f"], remove), named(60, &["unpause"], unpause));
            let services: Vec<String> = create.iter().chain(recreate).chain(start).cloned().collect();
            // Without names, `up` is about all services.
            let up = (!services.is_empty()).then(|| compose_up(deed, &services));
            let build = compose_build(deed, build);
            build.into_iter().chain(remove).chain(unpause).chain(up).collect()
        }
    }
}

/// Package lists are fetched first: a new machine has none.
fn install(packages: &[String]) -> Vec<Command> {
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"];
    let update: Vec<&str> = quiet.into_iter().chain(["update"]).collect();
    let keep_config = "Dpkg::Options::=--force-confold";
    let install: Vec<&str> =
        quiet.into_iter().chain(["-o", keep_config, "install", "--no-install-recommends", "--"]).collect();
    vec![Command::new(600, &update, &[]), Command::new(1200, &install, packages)]
}

/// `docker compose` for the project of a deed, told where its files are.
fn compose(deed: &Deed) -> Vec<String> {
    let (Deed::ComposeUp { project, directory, files, profiles, .. }
    | Deed::ContainerRecreate { project, directory, files, profiles, .. }
    | Deed::ComposeDown { project, directory, files, profiles, .. }) = deed
    else {
        return Vec::new();
    };
    let mut words: Vec<String> = vec!["docker".into(), "compose".into(), "-p".into(), project.clone()];
    words.extend(["--project-directory".into(), directory.to_string()]);
    words.extend(files.iter().flat_map(|file| ["-f".into(), file.to_string()]));
    words.extend(profiles.iter().flat_map(|profile| ["--profile".into(), profile.clone()]));
    words
}

/// Builds the images of services, if there are any to build.
fn compose_build(deed: &Deed, services: &[String]) -> Option<Command> {
    let mut words = compose(deed);
    words.push("build".into());
    words.extend(services.iter().cloned());
    (!services.is_empty()).then(|| Command::of(1800, words))
}

fn compose_up(deed: &Deed, services: &[String]) -> Command {
    let mut words = compose(deed);
    let pull = if matches!(deed, Deed::ComposeUp { pulled: true, .. }) { "--pull=never" } else { "--quiet-pull" };
    words.extend(["up", "-d", pull].map(String::from));
    // What only starts is not replaced, whatever this version of Compose thinks of it.
    if matches!(deed, Deed::ComposeUp { create, recreate, .. } if create.is_empty() && recreate.is_empty()) {
        words.push("--no-recreate".into());
    }
    if matches!(deed, Deed::ComposeUp { built: true, .. }) {
        words.push("--no-build".into());
    }
    words.extend(services.iter().cloned());
    Command::of(900, words).starting()
}

/// What takes a deed back before the former files are in place again, while the new ones still describe what is to go.
pub fn unmake(deed: &Deed) -> Vec<Command> {
    match deed {
        // That it failed goes too: of a unit that was not there before, nothing stays.
        Deed::Start { units } => {
            vec![Command::systemctl(120, "stop", units), Command::systemctl(60, "reset-failed", units)]
        }
        Deed::Enable { units } => vec![Command::switch("disable", units)],
        Deed::ComposeUp { project, new: true, .. } => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "down"], &[])]
        }
        Deed::ComposeUp { project, create, .. } if !create.is_empty() => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "rm", "-s", "-f"], create)]
        }
        _ => Vec::new(),
    }
}

/// What brings running state back once the former files are.
pub fn undo(deed: &Deed) -> Vec<Command> {
    match deed {
        Deed::DaemonReload
        | Deed::Reload { .. }
        | Deed::Restart { .. }
        | Deed::ContainerRestart { .. }
        | Deed::ContainerRecreate { .. } => commands(deed),
        Deed::Stop { units } => vec![Command::systemctl(120, "start", units)],
        Deed::Disable { units } => vec![Command::switch("enable", units)],
        Deed::Reenable { units } => vec![Command::switch("reenable", units)],
        Deed::Bring { units } => vec![Command::systemctl(120, "reload-or-restart", units)],
        Deed::Signal { .. } | Deed::ContainerSignal { .. } => commands(deed),
        Deed::ComposeUp { build, recreate, remove, .. } if !(recreate.is_empty() && remove.is_empty()) => {
            let services: Vec<String> = recreate.iter().chain(remove).cloned().collect();
            let former = former(deed);
            let again: Vec<String> = build.iter().filter(|service| recreate.contains(service)).cloned().collect();
            compose_build(&former, &again).into_iter().chain([compose_up(&former, &services)]).collect()
        }
        Deed::ComposeStop { project, services } => {
            vec![Command::new(180, &["docker", "compose", "-p", project, "start"], services)]
        }
        Deed::ComposeDown { services, .. } => vec![compose_up(deed, services)],
        _ => Vec::new(),
    }
}

/// The same with the files that described the project before.
fn former(deed: &Deed) -> Deed {
    let mut former = deed.clone();
    if let Deed::ComposeUp { files, built, pulled, before, .. } = &mut former
        && !before.is_empty()
    {
        files.clone_from(before);
        // The former ones may come from elsewhere.
        (*built, *pulled) = (false, false);
    }
    former
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::effect::Rested;

    #[test]
    fn g07_the_way_back_of_a_project_takes_only_what_came() {
        let up = |new: bool, create: &str, start: &str| {
            let names = |names: &str| names.split_whitespace().map(String::from).collect::<Vec<_>>();
            let deed = Deed::ComposeUp {
                project: "app".into(),
                directory: "/srv/app".into(),
                files: Vec::new(),
                profiles: Vec::new(),
                build: Vec::new(),
                create: names(create),
                recreate: Vec::new(),
                start: names(start),
                unpause: Vec::new(),
                remove: Vec::new(),
                built: false,
                pulled: false,
                new,
                before: Vec::new(),
                rested: Rested::default(),
            };
            unmake(&deed).into_iter().map(|command| command.words[4..].join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(up(true, "web db", ""), ["down"]);
        assert_eq!(up(false, "cache", ""), ["rm -s -f cache"], "what was adopted stays");
        // Of several containers of a service, some may have run all along.
        assert!(up(false, "", "worker").is_empty());
    }
}
