//! `reconcile adopt HOST`: writes a stack for what runs there, and takes it over as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::adopt::{self, Candidate, LeftOut, Sorted, Trial};
use crate::base::diagnostic::did_you_mean;
use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, ResourceId, StackName};
use crate::cli::apply::{bounds, carry_out};
use crate::cli::args::{Adopt, Apply, Common, Waves};
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, count};
use crate::cli::plan::Planning;
use crate::cli::wire::{Bounds, Parts};
use crate::cli::{Call, ask, wire};
use crate::engine;
use crate::host::observation::Observation;
use crate::load::{Config, Secrets, Selection};
use crate::plan::compare::Ownership;
use crate::render::render;
use crate::source::{self, Place, Spec};

/// How often what is left is planned again. Leaving one thing out rarely spoils another.
const ROUNDS: usize = 4;

/// What an adoption works on.
struct Work {
    directory: Utf8PathBuf,
    tree: source::Tree,
    host: HostName,
    stack: StackName,
}

/// Runs the command.
pub fn run(call: &Call, options: &Adopt) -> Result<u8> {
    let work = Work::begin(call, options)?;
    wire::block_on(async {
        let (sorted, digest) = work.find(call, options).await?;
        let files = adopt::stack_files(&work.stack, &work.host, &sorted.candidates);
        let nothing = sorted.candidates.is_empty();
        if !nothing {
            write(&work.directory, &files)?;
        }
        let apply = Work::apply(options, &sorted.candidates, digest);
        let next = format!("reconcile apply --host {} --stack {}{}", work.host, work.stack, adopts(&apply));
        if call.common.json {
            let written: Vec<&Utf8PathBuf> = if nothing { Vec::new() } else { files.keys().collect() };
            call.screen.show_json(&json!({
                "version": 1, "command": "adopt", "host": work.host, "stack": work.stack,
                "adopted": adopt::ids(&sorted.candidates), "written": written, "left_out": sorted.left_out,
                "of_packages": sorted.of_packages, "next": (!nothing).then_some(next),
            }));
            return Ok(0);
        }
        call.screen.show(&work.text(&sorted, files.len()));
        if nothing {
            return Ok(0);
        }
        if !options.yes && !ask::is_somebody_there(call.common.no_input) {
            call.screen
                .show(Page::new().line("not taken over yet. This does it, and changes nothing else:").line(&next));
            return Ok(0);
        }
        // The plan, and the history, say what another command has to choose for the same.
        let (hosts, stacks) = (vec![work.host.to_string()], vec![work.stack.to_string()]);
        let common = Common { hosts, stacks, tags: Vec::new(), ..call.common.clone() };
        let call = &Call { common: &common, ..*call };
        let repository = wire::open(call.common, Secrets::Placeholder)?;
        let planning = Planning::of(call, repository, work.parts(), bounds(&apply)).await?;
        carry_out(call, &apply, planning, options.yes).await
    })
}

impl Work {
    fn begin(call: &Call, options: &Adopt) -> Result<Work> {
        let spec = wire::spec(call.common)?;
        let Spec { place: Place::Directory(directory), revision: None } = &spec else {
            let error = Error::new(Kind::Usage, format!("{spec} is no directory that can be written into"));
            return Err(error.hint("clone it, and name the clone with --repo"));
        };
        let tree = source::open(&spec, &source::default_cache())?;
        let config = wire::load_tree(call.common, &tree, &spec.place, Secrets::Placeholder)?.config;
        let only = Selection { hosts: vec![options.host.clone()], ..Selection::default() };
        only.select(&config)?;
        let named = |why| Error::new(Kind::Usage, why);
        let host = HostName::new(&options.host).map_err(named)?;
        let stack = call.common.stacks.first().cloned().unwrap_or_else(|| format!("adopted-{host}"));
        let stack = StackName::new(stack).map_err(named)?;
        let folder = directory.join("stacks").join(stack.as_str());
        if folder.exists() {
            let error = Error::new(Kind::Usage, format!("{folder} is there already, and nothing in it is overwritten"));
            let hint = "for what is not in it yet, give the new stack another name: --stack NAME; what it describes is taken \
                over by `reconcile apply` with --adopt, as `reconcile plan` says";
            return Err(error.hint(hint));
        }
        Ok(Work { directory: directory.clone(), tree, host, stack })
    }

    /// Exactly the new stack.
    fn parts(&self) -> Parts {
        let stacks = BTreeMap::from([(self.host.clone(), BTreeSet::from([self.stack.clone()]))]);
        Parts { hosts: vec![self.host.clone()], stacks: Some(stacks) }
    }

    /// Looks at the host, and keeps of what is there what can be taken over as it is. Also the digest of the plan that
    /// does so.
    async fn find(&self, call: &Call<'_>, options: &Adopt) -> Result<(Sorted, String)> {
        let place = Place::Directory(self.directory.clone());
        let repository = || wire::load_tree(call.common, &self.tree, &place, Secrets::Placeholder);
        let live = wire::go_live(call.common, repository()?, self.parts(), Bounds::default())?;
        let found = adopt::look(&live.setup, &self.host).await?;
        let mut sorted = adopt::sort(&found, &known(&live.setup.config, &self.host, &found.seen));
        let described = render(&live.setup.config, &self.host, None).desired.resources;
        let is_known = |id: &&ResourceId| is_found(&sorted, id) || described.iter().any(|resource| resource.id == **id);
        if let Some(id) = options.only.iter().find(|id| !is_known(id)) {
            let error = Error::new(Kind::Usage, format!("{} has nothing called `{id}` to take over", self.host));
            let names: Vec<String> = adopt::ids(&sorted.candidates).iter().map(ToString::to_string).collect();
            return Err(match did_you_mean(&id.to_string(), names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None if names.is_empty() => error,
                None => error.hint(format!("there is: {}", names.join(", "))),
            });
        }
        if !options.only.is_empty() {
            sorted.candidates.retain(|candidate| options.only.contains(&candidate.id));
            let is_meant = |each: &LeftOut| options.only.iter().any(|id| id.to_string() == each.what);
            sorted.left_out.retain(is_meant);
        }
        let trial = Trial { files: &self.tree.files, stack: &self.stack, host: &self.host };
        let (mut candidates, out) = trial.fit(std::mem::take(&mut sorted.candidates))?;
        sorted.left_out.extend(out);
        let mut digest = String::new();
        for _ in 0..ROUNDS {
            if candidates.is_empty() {
                break;
            }
            let repository = wire::Repository { config: trial.config(&candidates)?, ..repository()? };
            let bounds = Bounds { adopt: adopt::ids(&candidates).into_iter().collect(), ..Bounds::default() };
            let live = wire::go_live(call.common, repository, self.parts(), bounds)?;
            let mut planned = engine::plan(&live.setup).await;
            if let Some((_, error)) = planned.failures.pop() {
                return Err(error);
            }
            digest = planned.plan.digest().to_string();
            let before = candidates.len();
            for host in &planned.plan.hosts {
                let (kept, out) = trial.judge(candidates, host);
                candidates = kept;
                sorted.left_out.extend(out);
            }
            if candidates.len() == before {
                sorted.candidates = candidates;
                return Ok((sorted, digest));
            }
        }
        Ok((sorted, digest))
    }

    /// How it is taken over: with exactly the plan that was tried, unless a person says yes to another.
    fn apply(options: &Adopt, candidates: &[Candidate], digest: String) -> Apply {
        Apply {
            yes: options.yes,
            expect: options.yes.then_some(digest),
            override_plan: None,
            adopt: adopt::ids(candidates).into_iter().collect(),
            full: false,
            lock_wait: 10,
            confirm: 60,
            waves: Waves::default(),
        }
    }

    fn text(&self, sorted: &Sorted, files: usize) -> Page {
        let mut page = Page::new();
        page.put(BOLD, self.host.as_str());
        let (found, out) = (sorted.candidates.len(), sorted.left_out.len());
        page.put(DIM, &format!(" · {found} described, {out} left out, {} of packages", sorted.of_packages)).end();
        for candidate in &sorted.candidates {
            page.space(2).put(ADD, "+ ").put(PLAIN, &format!("{} {}", candidate.id.kind, candidate.id.name)).end();
            candidate.notes.iter().for_each(|note| _ = page.space(6).put(DIM, "note: ").put(PLAIN, note).end());
        }
        for LeftOut { what, why } in &sorted.left_out {
            page.space(2).put(CHANGE, "· ").put(PLAIN, what).put(DIM, &format!("  left out: {why}")).end();
        }
        if sorted.candidates.is_empty() {
            page.line("nothing to write");
        } else {
            page.line(&format!("written: stacks/{} ({})", self.stack, count(files, "file"))).end();
        }
        page
    }
}

/// Whether something of this name was found on the host, also if it is left out.
fn is_found(sorted: &Sorted, id: &ResourceId) -> bool {
    let is_left_out = |out: &LeftOut| out.what == id.to_string();
    sorted.candidates.iter().any(|candidate| candidate.id == *id) || sorted.left_out.iter().any(is_left_out)
}

/// Paths and projects that are described or owned already, each with who says so.
fn known(config: &Config, host: &HostName, seen: &Observation) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    let ownership = Ownership::read(&config.repo, seen);
    known.extend(
        ownership
            .foreign
            .iter()
            .map(|(path, repo)| (path.to_string(), format!("it belongs to the repository `{repo}`"))),
    );
    for (id, claim) in ownership.own.values().flat_map(|ledger| &ledger.claims) {
        let ours = || format!("it is ours already, as {id}");
        known.extend(claim.paths.keys().map(|path| (path.to_string(), ours())));
        known.extend(claim.project.iter().map(|project| (format!("compose:{}", project.name), ours())));
    }
    for resource in render(config, host, None).desired.resources {
        let (line, _) = resource.origin.line_column();
        let why = format!("it is described already: {}:{line}", resource.origin.path());
        known.extend(resource.state.paths.keys().map(|path| (path.to_string(), why.clone())));
        known.extend(resource.state.project.iter().map(|project| (format!("compose:{}", project.name), why.clone())));
    }
    known
}

/// Writes files that are not there yet.
fn write(directory: &Utf8Path, files: &BTreeMap<Utf8PathBuf, Vec<u8>>) -> Result<()> {
    for (path, bytes) in files {
        let path = directory.join(path);
        let folder = path.parent().unwrap_or(directory);
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::File::create_new(&path))
            .and_then(|mut file| file.write_all(bytes));
        written.map_err(|cause| Error::new(Kind::Usage, format!("{path} cannot be written")).because(cause))?;
    }
    Ok(())
}

/// ` --adopt unit:a --adopt site:b`, as a shell reads it.
fn adopts(apply: &Apply) -> String {
    let quoted = |id: String| {
        let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || ":/._-@".contains(c));
        if plain { id } else { format!("'{}'", id.replace('\'', r"'\''")) }
    };
    apply.adopt.iter().map(|id| format!(" --adopt {}", quoted(id.to_string()))).collect()
}
