//! Files that go along with a Compose file, and what happens to containers when they change.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span, did_you_mean};
use crate::resource::compose::state;
use crate::resource::compose_file::Named;
use crate::resource::compose_whole::Whole;
use crate::resource::dockerignore::Ignore;
use crate::resource::lowering::{Lowering, join_within};
use crate::resource::state::{Content, PathState, ProjectService};
use crate::resource::{Action, Reaction, value};

/// How many files of a mounted folder are shipped.
const MAX_FILES: usize = 500;

/// A file that is shipped because the stack says so.
#[derive(Debug, Clone)]
pub struct Mount {
    name: Text,
    mode: Option<Text>,
}

impl Mount {
    /// Reads all `mount` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let nodes = reader.children("mount").into_iter();
        let mounts = nodes.map(|mut node| {
            let mode = node.value("mode");
            let names = node.args();
            if names.is_empty() {
                let problem = Problem::error("`mount` names no file").at(&node.span(), "here");
                node.report(problem.hint("write `mount \"nginx.conf\"`"));
            }
            node.finish();
            names.into_iter().map(move |name| Mount { name, mode: mode.clone() })
        });
        mounts.flatten().collect()
    }
}

/// The files shipped into a project directory.
pub struct Shipped<'a> {
    on: &'a Lowering<'a>,
    /// The folder of the repository that stands for the project directory.
    base: Utf8PathBuf,
    directory: &'a Utf8Path,
    origin: &'a Span,
    paths: BTreeMap<Utf8PathBuf, PathState>,
}

impl<'a> Shipped<'a> {
    /// Nothing yet.
    pub fn new(on: &'a Lowering<'a>, base: Utf8PathBuf, directory: &'a Utf8Path, origin: &'a Span) -> Self {
        Shipped { on, base, directory, origin, paths: BTreeMap::new() }
    }

    /// Adds what the stack names; a folder stands for all files in it.
    pub fn own(&mut self, mounts: &[Mount]) -> Option<()> {
        for mount in mounts {
            let mode = match &mount.mode {
                Some(text) => Some(value::mode(self.on, text)?),
                None => None,
            };
            let relative = self.on.text(&mount.name)?;
            let path = join_within(&self.base, &relative).filter(|path| path.starts_with(&self.base));
            if path.is_none_or(|path| self.add(&path, mode, MAX_FILES, |_| true) == 0) {
                // Reports what is wrong with the name, with the nearest file there is.
                self.on.asset(&mount.name)?;
                let problem = Problem::error(format!("`{relative}` is not beside the Compose file"));
                self.on.report(problem.at(&mount.name.span, "here"));
                return None;
            }
        }
        Some(())
    }

    /// Adds what the Compose files read, mount or, where it is `built` on this host, build from their own folder, where
    /// the repository has it.
    pub fn named_by(&mut self, whole: &Whole, built: bool) {
        let services = whole.services.values();
        let named = services.clone().flat_map(|service| service.mounts.items.iter().chain(&service.reads));
        let named = named.chain(&whole.reads).map(|named| (named, None));
        let built = services.filter(|_| built).filter_map(|service| Some((service.build.as_ref()?, service.recipe())));
        for (named, recipe) in named.chain(built) {
            let Some(path) = named.path() else { continue };
            if path.starts_with(&self.base) {
                match recipe {
                    Some(recipe) => self.context_of(&path, &recipe),
                    None => _ = self.add(&path, None, MAX_FILES, |_| true),
                }
            } else if self.on.files.contains_key(&path) {
                let problem =
                    Problem::warning(format!("`{}` is outside the project and not shipped with it", named.written));
                let hint = "move it beside the Compose file, or manage it with `file`";
                self.on.report(problem.at(self.origin, "by this project").hint(hint));
            }
        }
    }

    /// Adds a folder that something is built from, without what its `.dockerignore` leaves out. The recipe may have one of
    /// its own. Both always come along.
    pub fn context_of(&mut self, folder: &Utf8Path, recipe: &Utf8Path) {
        let beside = Utf8PathBuf::from(format!("{recipe}.dockerignore"));
        let own = [beside, folder.join(".dockerignore")].into_iter().find(|path| self.on.files.contains_key(path));
        let text = own.as_ref().and_then(|path| self.on.files.get(path)).map(|bytes| String::from_utf8_lossy(bytes));
        let ignore = text.map(|text| Ignore::parse(&text)).unwrap_or_default();
        // Without one of its files an image would be another one.
        self.add(folder, None, usize::MAX, |file| {
            let named = file == recipe || own.as_deref() == Some(file);
            named || file.strip_prefix(folder).is_ok_and(|below| !ignore.leaves_out(below.as_str()))
        });
    }

    /// Adds a file, or all files of a folder; those there are already stay as they are. Returns how many it stands for.
    /// Git's modes are not known here: what begins like a script can be run, unless a mode is asked for.
    fn add(&mut self, path: &Utf8Path, mode: Option<u32>, most: usize, takes: impl Fn(&Utf8Path) -> bool) -> usize {
        let files: Vec<_> = if let Some(bytes) = self.on.files.get(path) {
            vec![(path, bytes)]
        } else {
            let all = self.on.files.range(path.join("")..).map(|(path, bytes)| (path.as_path(), bytes));
            let own = self.on.folder.join("stack.kdl");
            let all = all.take_while(|(file, _)| file.starts_with(path)).filter(|(file, _)| *file != own);
            all.filter(|(file, _)| takes(file)).take(most).collect()
        };
        for (file, bytes) in &files {
            if let Some(target) = self.place(file) {
                let mode = mode.unwrap_or(if bytes.starts_with(b"#!") { 0o755 } else { 0o644 });
                let file = state(Content::plain((*bytes).clone()), mode);
                self.paths.entry(target).or_insert(file);
            }
        }
        files.len()
    }

    /// Where something of the repository is on the host.
    fn place(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        // The folder itself is the project directory: joining nothing would add a slash.
        match path.strip_prefix(&self.base).ok()? {
            below if below.as_str().is_empty() => Some(self.directory.to_path_buf()),
            below => Some(self.directory.join(below)),
        }
    }

    /// Where a single mounted file is on the host, if it is one that is shipped.
    pub fn single(&self, named: &Named) -> Option<Utf8PathBuf> {
        let path = match named.path() {
            Some(path) => self.place(&path)?,
            None => Utf8PathBuf::from(&named.written),
        };
        self.paths.contains_key(&path).then_some(path)
    }

    /// The folder on the host that a service is built from, if it is shipped.
    pub fn context(&self, named: &Named) -> Option<Utf8PathBuf> {
        let folder = self.place(&named.path()?)?;
        self.paths.keys().any(|path| path.starts_with(&folder)).then_some(folder)
    }

    /// The paths on the host of a file named in the stack, or of all files of a folder.
    fn find(&self, name: &str) -> Vec<Utf8PathBuf> {
        let path = self.directory.join(name.strip_prefix("./").unwrap_or(name).trim_end_matches('/'));
        self.paths.keys().filter(|shipped| shipped.starts_with(&path)).cloned().collect()
    }

    /// The files of a mounted folder, where they are shipped.
    pub fn below(&self, named: &Named) -> Vec<Utf8PathBuf> {
        let Some(folder) = named.path().and_then(|path| self.place(&path)) else { return Vec::new() };
        self.paths.keys().filter(|shipped| shipped.starts_with(&folder) && **shipped != folder).cloned().collect()
    }

    /// All of it.
    pub fn into_paths(self) -> BTreeMap<Utf8PathBuf, PathState> {
        self.paths
    }
}

/// `when "nginx.conf" changes="reload" service="nginx"`.
#[derive(Debug, Clone)]
pub struct Change {
    file: Text,
    changes: Text,
    service: Option<Text>,
}

/// What is done to a container.
#[derive(Debug, Clone)]
enum Deed {
    Restart,
    Recreate,
    Signal(String),
    Nothing,
}

impl Change {
    /// Reads all `when` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let nodes = reader.children("when").into_iter();
        nodes
            .filter_map(|mut node| {
                let file = node.required("the name of a file");
                let (changes, service) = (node.value("changes"), node.value("service"));
                if changes.is_none() {
                    let problem = Problem::error("`when` does not say what is done").at(&node.span(), "here");
                    node.report(problem.hint("add `changes=\"restart\"`"));
                }
                node.finish();
                Some(Change { file: file?, changes: changes?, service })
            })
            .collect()
    }

    /// What is done to which container when a shipped file changes: a restart of those that mount it, unless the stack
    /// says otherwise.
    pub fn reactions(
        changes: &[Change],
        on: &Lowering<'_>,
        project: &str,
        services: &BTreeMap<String, ProjectService>,
        folders: &BTreeMap<String, ProjectService>,
        shipped: &Shipped<'_>,
    ) -> Option<Vec<Reaction>> {
        let mut deeds: BTreeMap<(Utf8PathBuf, String), Deed> = BTreeMap::new();
        for (service, runs) in services {
            deeds.extend(runs.mounts.iter().map(|path| ((path.clone(), service.clone()), Deed::Restart)));
        }
        for change in changes {
            let (paths, service, deed) = change.lower(on, services, shipped)?;
            let mut chosen: Vec<(Utf8PathBuf, String)> = Vec::new();
            for path in &paths {
                let mounting = services.iter().chain(folders).filter(|(_, runs)| runs.mounts.contains(path));
                let mounting = mounting.map(|(service, _)| service).collect::<BTreeSet<_>>().into_iter().cloned();
                let by = service.clone().map_or_else(|| mounting.collect::<Vec<_>>(), |service| vec![service]);
                chosen.extend(by.into_iter().map(|service| (path.clone(), service)));
            }
            if chosen.is_empty() && !matches!(deed, Deed::Nothing) {
                let problem = Problem::error("no service mounts this").at(&change.file.span, "here");
                on.report(problem.hint("say which one is meant: `service=\"web\"`"));
                return None;
            }
            let stale = |(path, service): &&(Utf8PathBuf, String)| services[service].mounts.contains(path);
            if let (Deed::Signal(_), Some((_, service))) = (&deed, chosen.iter().find(stale)) {
                let what = format!("`{service}` mounts this file alone, and would read it as it was");
                let problem = Problem::error(what).at(&change.changes.span, "no signal changes that");
                on.report(problem.hint(
                    "a container keeps the very file it was started with: mount the folder that it is in, or say `restart`",
                ));
                return None;
            }
            deeds.extend(chosen.into_iter().map(|key| (key, deed.clone())));
        }
        let mut reactions: Vec<Reaction> = Vec::new();
        for ((path, service), deed) in deeds {
            let project = project.to_string();
            let action = match deed {
                Deed::Nothing => continue,
                Deed::Recreate => Action::Recreate { project, service },
                Deed::Restart => Action::Container { project, service, signal: None },
                Deed::Signal(signal) => Action::Container { project, service, signal: Some(signal) },
            };
            match reactions.iter_mut().find(|reaction| reaction.action == action) {
                Some(reaction) => reaction.paths.push(path),
                None => reactions.push(Reaction { paths: vec![path], action }),
            }
        }
        Some(reactions)
    }

    fn lower(
        &self,
        on: &Lowering<'_>,
        services: &BTreeMap<String, ProjectService>,
        shipped: &Shipped<'_>,
    ) -> Option<(Vec<Utf8PathBuf>, Option<String>, Deed)> {
        let name = on.text(&self.file)?;
        let paths = shipped.find(&name);
        if paths.is_empty() {
            let problem = Problem::error(format!("`{name}` is not shipped with this project"));
            on.report(
                problem
                    .at(&self.file.span, "here")
                    .hint("name a file of the stack's folder that the Compose file mounts, or that `mount` names"),
            );
            return None;
        }
        let what = "one of restart, recreate, reload, signal:NAME and none";
        let deed = on.parsed(&self.changes, what, |word| match word {
            "restart" => Some(Deed::Restart),
            "recreate" => Some(Deed::Recreate),
            "reload" => Some(Deed::Signal("HUP".into())),
            "none" => Some(Deed::Nothing),
            word => value::parse_signal(word.strip_prefix("signal:")?).map(Deed::Signal),
        })?;
        let service = match &self.service {
            Some(text) => Some(known_service(on, text, services)?),
            None => None,
        };
        Some((paths, service, deed))
    }
}

fn known_service(on: &Lowering<'_>, text: &Text, services: &BTreeMap<String, ProjectService>) -> Option<String> {
    let name = on.text(text)?;
    if services.contains_key(&name) {
        return Some(name);
    }
    let problem = Problem::error(format!("the project runs no service called `{name}`")).at(&text.span, "here");
    on.report(match did_you_mean(&name, services.keys().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("a service whose profile is not active does not run"),
    });
    None
}
