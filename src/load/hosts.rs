//! `hosts/*.kdl`: the repository's id, its hosts, and secrets for all stacks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};

use crate::base::decode::{self, Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::id::{HostName, RepoId};
use crate::base::secret::SecretTree;
use crate::base::template::{Scope, Templates};
use crate::host::transport::{SshTarget, Target};
use crate::load::limits::Given;
use crate::load::reading::{Reading, shown, with_known};
use crate::load::secrets::{self, Found};
use crate::load::target::{Place, Settings};
use crate::load::vars::{Filled, Vars};
use crate::load::{Extent, Host, Limits, Rollout, rollout};
use crate::resource::registry::Registry;

/// What the files in `hosts/` say.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) repo: Option<RepoId>,
    pub(super) hosts: BTreeMap<HostName, Host>,
    pub(super) rollout: Option<Rollout>,
    pub(super) secrets: Found,
    pub(super) registries: Vec<Registry>,
    /// Whether all hosts are known: where a host has mistakes, a stack that names it is right to do so.
    pub(super) complete: bool,
}

/// What a `repo` node says.
struct Repo {
    id: Option<RepoId>,
    given: Given,
    rollout: Option<rollout::Draft>,
    span: Span,
}

/// A host whose variables are not filled in yet.
struct Draft {
    host: Host,
    vars: Vars,
    given: Given,
}

/// Reads all files of `hosts/`.
pub(super) fn read(reading: &Reading<'_>, templates: Option<&Templates>) -> Inventory {
    let mut inventory = Inventory { complete: true, ..Inventory::default() };
    let mut repos: Vec<Repo> = Vec::new();
    let mut drafts: BTreeMap<HostName, Draft> = BTreeMap::new();
    for path in reading.directly_in("hosts", ".kdl") {
        let document = reading.text(path).and_then(|source| {
            let document = decode::parse(&source, &reading.problems)?;
            Some((source, document))
        });
        let Some((source, document)) = document else {
            inventory.complete = false;
            continue;
        };
        let readers = Reader::document(&document, &source, &reading.problems);
        let (defaults, others): (Vec<_>, Vec<_>) = readers.into_iter().partition(|node| node.name() == "defaults");
        let defaults = read_defaults(reading, defaults);
        for reader in others {
            match reader.name() {
                "repo" => repos.push(read_repo(reading, reader)),
                "secret" => secrets::read(reading, reader, Utf8Path::new(""), &mut inventory.secrets),
                "secrets" => secrets::read_files(reading, reader, Utf8Path::new(""), &mut inventory.secrets),
                "registry" => inventory.registries.extend(Registry::decode(reader, Utf8Path::new("hosts"))),
                "host" => match read_host(reading, reader, &defaults) {
                    Some(draft) => inventory.complete &= add(reading, &mut drafts, draft),
                    None => inventory.complete = false,
                },
                name => {
                    let problem = Problem::error(format!("a hosts file has no node called {}", shown(name)));
                    let known = ["repo", "host", "defaults", "secret", "secrets", "registry"].into_iter();
                    reading.report(with_known(problem.at(&reader.span(), "unknown"), name, "it knows", known));
                    inventory.complete = false;
                }
            }
        }
    }
    let (given, rollout) = match only_repo(reading, repos, inventory.complete) {
        Some(repo) => {
            inventory.repo = repo.id;
            (repo.given, repo.rollout)
        }
        None => (Given::default(), None),
    };
    if drafts.is_empty() && reading.problems.borrow().errors() == 0 {
        let problem = Problem::warning("the repository has no hosts, so nothing is done anywhere");
        reading.report(problem.hint("describe one in a file such as `hosts/web.kdl`: `host \"web-1\" address=\"…\"`"));
    }
    inventory.rollout = rollout.map(|rollout| rollout.finish(reading, &drafts.keys(), inventory.complete));
    for draft in drafts.values_mut() {
        let given = draft.given.over(&given);
        (draft.host.limits, draft.host.extent) = (given.limits(), given.extent());
    }
    warn_of_twins(reading, &drafts);
    resolve_jumps(&mut drafts);
    inventory.hosts = fill(reading, drafts, templates, &inventory.secrets);
    // A word that is misspelt may have been the tag that a stack asks for.
    inventory.complete &= reading.problems.borrow().errors() == 0;
    inventory
}

/// The id of the repository whose files these are, where it can be read. Whatever else is wrong with them does not matter.
pub fn repo(files: &BTreeMap<Utf8PathBuf, Arc<[u8]>>) -> Option<RepoId> {
    let problems = RefCell::default();
    let inventory = files.iter().filter(|(path, _)| path.parent() == Some("hosts".into()));
    inventory.filter(|(path, _)| path.extension() == Some("kdl")).find_map(|(path, bytes)| {
        let source = Source::new(path.clone(), std::str::from_utf8(bytes).ok()?);
        let document = decode::parse(&source, &problems)?;
        let readers = Reader::document(&document, &source, &problems);
        let id = readers.into_iter().find(|reader| reader.name() == "repo")?.arg()?;
        RepoId::new(id.raw).ok()
    })
}

fn read_defaults(reading: &Reading<'_>, nodes: Vec<Reader<'_>>) -> Settings {
    let mut found: Option<(Settings, Span)> = None;
    for mut reader in nodes {
        let span = reader.span();
        let settings = Settings::read(&mut reader);
        reader.finish();
        if let Some((_, first)) = &found {
            let problem = Problem::error("a hosts file has one `defaults`").at(&span, "the second one");
            reading.report(problem.at(first, "the first one").hint("put all of them into one"));
        } else {
            found = Some((settings, span));
        }
    }
    found.map(|(settings, _)| settings).unwrap_or_default()
}

fn read_repo(reading: &Reading<'_>, mut reader: Reader<'_>) -> Repo {
    let span = reader.span();
    let id = reader.required("the id of the repository");
    let (given, rollout) = (Given::read(&mut reader), rollout::Draft::read(&mut reader));
    reader.finish();
    Repo { id: id.and_then(|id| name(reading, &id, "the id of a repository", repo_id)), given, rollout, span }
}

fn only_repo(reading: &Reading<'_>, repos: Vec<Repo>, complete: bool) -> Option<Repo> {
    let mut repos = repos.into_iter();
    let Some(first) = repos.next() else {
        // A file that could not be read may well say it.
        if complete {
            let problem = Problem::error("the repository has no id, under which it owns what it puts on hosts");
            reading.report(problem.hint("write `repo \"my-infra\"` into `hosts/repo.kdl`, and never change it"));
        }
        return None;
    };
    for other in repos {
        let problem = Problem::error("the repository has two ids").at(&other.span, "the second one");
        reading.report(problem.at(&first.span, "the first one").hint("keep the one under which things were applied"));
    }
    Some(first)
}

fn read_host(reading: &Reading<'_>, mut reader: Reader<'_>, defaults: &Settings) -> Option<Draft> {
    let given = reader.required("the name of the host");
    let (place, own) = (Place::read(&mut reader), Settings::read(&mut reader));
    reader.finish();
    let given = given?;
    let name = name(reading, &given, "the name of a host", HostName::new)?;
    if name.as_str() == "all" {
        let problem = Problem::error("a host cannot be called `all`: `on \"all\"` means every host");
        reading.report(problem.at(&given.span, "here"));
        return None;
    }
    let all = own.over(defaults);
    let target = place.target(reading, &name, &own, &all);
    let tags: BTreeSet<String> = all.tags.iter().filter_map(|tag| check_tag(reading, tag)).collect();
    let host = Host {
        name,
        target: target?,
        tags: tags.into_iter().collect(),
        vars: Map::new(),
        limits: Limits::default(),
        extent: Extent::default(),
        span: given.span,
    };
    Some(Draft { host, vars: all.vars, given: all.given })
}

fn check_tag(reading: &Reading<'_>, tag: &Text) -> Option<String> {
    name(reading, tag, "a tag", HostName::new).map(|name| name.to_string())
}

/// `text` as a name, or a problem that says why it cannot be one.
pub(super) fn name<T>(
    reading: &Reading<'_>,
    text: &Text,
    what: &str,
    make: impl Fn(String) -> Result<T, String>,
) -> Option<T> {
    make(text.raw.clone())
        .map_err(|why| {
            let problem = Problem::error(format!("{} cannot be {what}", shown(&text.raw)));
            reading.report(problem.at(&text.span, "here").hint(why));
        })
        .ok()
}

/// An id of a repository. On a host its records are a directory of that name, beside files that all repositories share.
fn repo_id(text: String) -> Result<RepoId, String> {
    if ["lock", "lease"].contains(&text.as_str()) {
        return Err(format!("hosts keep a file `{text}` of their own where the records of repositories are"));
    }
    RepoId::new(text)
}

/// Whether it could be added: a second host of the same name is reported.
fn add(reading: &Reading<'_>, drafts: &mut BTreeMap<HostName, Draft>, draft: Draft) -> bool {
    if let Some(first) = drafts.get(&draft.host.name) {
        let problem = Problem::error(format!("there are two hosts called `{}`", draft.host.name));
        reading.report(problem.at(&draft.host.span, "the second one").at(&first.host.span, "the first one"));
        return false;
    }
    drafts.insert(draft.host.name.clone(), draft);
    true
}

fn ssh(draft: &Draft) -> Option<&SshTarget> {
    match &draft.host.target {
        Target::Ssh(ssh) => Some(ssh),
        Target::Local { .. } => None,
    }
}

/// Two names for one machine: each would undo what the other does.
fn warn_of_twins(reading: &Reading<'_>, drafts: &BTreeMap<HostName, Draft>) {
    let mut seen: BTreeMap<(&str, u16, Option<&str>), &Draft> = BTreeMap::new();
    for draft in drafts.values() {
        let Some(ssh) = ssh(draft) else { continue };
        let place = (ssh.address.as_str(), ssh.port.unwrap_or(22), ssh.jump.as_deref());
        if let Some(first) = seen.get(&place) {
            let (one, two) = (&first.host.name, &draft.host.name);
            let problem = Problem::warning(format!("`{one}` and `{two}` are the same machine: both are {}", place.0));
            let problem = problem.at(&draft.host.span, "here").at(&first.host.span, "and here");
            reading.report(problem.hint("describe a machine once, and give it several tags"));
        } else {
            seen.insert(place, draft);
        }
    }
}

/// A `jump` that names a host of the repository stands for that host's address.
fn resolve_jumps(drafts: &mut BTreeMap<HostName, Draft>) {
    let known: BTreeMap<String, String> = drafts
        .iter()
        .filter_map(|(name, draft)| {
            let ssh = ssh(draft)?;
            let user = ssh.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let port = ssh.port.map(|port| format!(":{port}")).unwrap_or_default();
            let bare = !ssh.address.contains(':');
            let address = if bare { ssh.address.clone() } else { format!("[{}]", ssh.address) };
            Some((name.to_string(), format!("{user}{address}{port}")))
        })
        .collect();
    for draft in drafts.values_mut() {
        let Target::Ssh(ssh) = &mut draft.host.target else { continue };
        let Some(jump) = ssh.jump.clone() else { continue };
        if jump == draft.host.name.as_str() {
            // From the file's defaults it means every other host.
            ssh.jump = None;
        } else if let Some(place) = known.get(&jump) {
            ssh.jump = Some(place.clone());
        }
    }
}

/// Fills in the variables of all hosts. A host's variables see its `host.name`, `host.address` and `host.tags`, and
/// those before them as `host.vars`.
fn fill(
    reading: &Reading<'_>,
    drafts: BTreeMap<HostName, Draft>,
    templates: Option<&Templates>,
    secrets: &Found,
) -> BTreeMap<HostName, Host> {
    // They are known only so that their use can be refused for what it is.
    let secrets: BTreeMap<String, SecretTree> =
        secrets.iter().map(|(name, (secret, _))| (name.clone(), secret.clone())).collect();
    let filled = drafts.into_iter().map(|(name, mut draft)| {
        if let Some(templates) = templates {
            draft.host.vars = fill_one(reading, &draft, templates, &secrets);
        }
        (name, draft.host)
    });
    filled.collect()
}

fn fill_one(
    reading: &Reading<'_>,
    draft: &Draft,
    templates: &Templates,
    secrets: &BTreeMap<String, SecretTree>,
) -> Map<String, Value> {
    let host = json!({
        "name": draft.host.name,
        "address": draft.host.address(),
        "tags": draft.host.tags,
    });
    let mut vars = Map::new();
    let mut scope = Scope::new(Map::new(), secrets.clone(), None);
    draft.vars.fill(&mut vars, &mut |text, vars| {
        let mut names = vars.clone();
        names.insert("host".into(), host.clone());
        scope.set_names(names);
        match templates.render_text(text, &scope) {
            Ok(rendered) if rendered.needs_facts => {
                let problem = Problem::error("a host's variables cannot use facts").at(&text.span, "here");
                reading.report(problem.hint("use the fact where it is needed"));
                Filled::Failed
            }
            Ok(rendered) if rendered.secret => {
                let problem = Problem::error("a secret cannot stand in a variable");
                let hint = "write `{{ secret.NAME }}` where it goes; variables can be shown, secrets cannot";
                reading.report(problem.at(&text.span, "this has a secret in it").hint(hint));
                Filled::Failed
            }
            Ok(rendered) => Filled::Text(rendered.text),
            Err(problem) => {
                reading.report(*problem);
                Filled::Failed
            }
        }
    });
    vars
}
