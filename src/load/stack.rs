//! `stacks/NAME/stack.kdl`: the header of a stack. Every node that is not part of it is a resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{self, Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span, did_you_mean};
use crate::base::id::{HostName, StackName};
use crate::base::secret::SecretTree;
use crate::load::Stack;
use crate::load::hosts::{self, Inventory};
use crate::load::reading::{Reading, shown, start_of};
use crate::load::secrets::{self, Found};
use crate::load::selectors::{Selectors, find, unknown_host};
use crate::load::values::{self, Values};
use crate::load::vars::{self, Vars};
use crate::resource::registry::Registry;
use crate::resource::spec::Spec;

/// The nodes of a stack that are not resources.
const HEADER: [&str; 10] =
    ["on", "except", "vars", "values", "host", "secret", "secrets", "registry", "state", "after"];

/// Variables by host, and secrets by host.
type Overrides = (BTreeMap<HostName, Vars>, BTreeMap<HostName, BTreeMap<String, SecretTree>>);

/// Reads all folders of `stacks/`.
pub(super) fn read_all(reading: &Reading<'_>, inventory: &Inventory) -> BTreeMap<StackName, Stack> {
    let mut stacks = BTreeMap::new();
    for name in reading.stack_folders() {
        let folder = Utf8Path::new("stacks").join(name);
        let path = folder.join("stack.kdl");
        if !reading.files.contains_key(&path) {
            warn_of_missing(reading, &folder, name);
            continue;
        }
        let stack = reading.text(&path).and_then(|source| read_file(reading, inventory, &folder, name, &source));
        stacks.extend(stack.map(|stack| (stack.name.clone(), stack)));
    }
    stacks
}

/// A folder that is no stack, unless its name says that it is not meant to be one.
fn warn_of_missing(reading: &Reading<'_>, folder: &Utf8Path, name: &str) {
    if name.starts_with(['_', '.']) {
        return;
    }
    let problem = Problem::warning(format!("{} has no `stack.kdl`, so it is no stack", shown(folder.as_str())));
    let hint = format!("write one, or call a folder of shared files `_{name}`");
    reading.report(problem.at(&start_of(&folder.join("stack.kdl")), "").hint(hint));
}

fn read_file(
    reading: &Reading<'_>,
    inventory: &Inventory,
    folder: &Utf8Path,
    name: &str,
    source: &Arc<Source>,
) -> Option<Stack> {
    let document = decode::parse(source, &reading.problems)?;
    let mut found: Option<Reader<'_>> = None;
    for reader in Reader::document(&document, source, &reading.problems) {
        if reader.name() != "stack" {
            let problem = Problem::error(format!("{} stands outside of the stack", shown(reader.name())));
            let hint = format!("a stack file has one node: `stack \"{name}\" {{ … }}`");
            reading.report(problem.at(&reader.span(), "here").hint(hint));
        } else if let Some(first) = &found {
            let problem = Problem::error("a stack file has one stack").at(&reader.span(), "the second one");
            let problem = problem.at(&first.span(), "the first one");
            reading.report(problem.hint("give each stack a folder of its own"));
        } else {
            found = Some(reader);
        }
    }
    let Some(reader) = found else {
        let problem = Problem::error(format!("`{folder}/stack.kdl` has no stack")).at(&Span::new(source, 0, 0), "");
        reading.report(problem.hint(format!("write `stack \"{name}\" {{ … }}`")));
        return None;
    };
    read_stack(reading, inventory, folder, name, reader)
}

/// What has been read of a stack so far.
struct Draft<'r, 'a> {
    reading: &'r Reading<'a>,
    folder: Utf8PathBuf,
    selectors: Selectors,
    vars: Vars,
    values: Values,
    overrides: Vec<(Text, Values)>,
    secrets: Found,
    registries: Vec<Registry>,
    resources: Vec<(Spec, Span)>,
    state: Option<Text>,
    after: Vec<(StackName, Text)>,
}

fn read_stack(
    reading: &Reading<'_>,
    inventory: &Inventory,
    folder: &Utf8Path,
    folder_name: &str,
    mut reader: Reader<'_>,
) -> Option<Stack> {
    let mut draft = Draft {
        reading,
        folder: folder.to_owned(),
        selectors: Selectors::default(),
        vars: Vars::new(),
        values: Values::default(),
        overrides: Vec::new(),
        secrets: Found::new(),
        registries: inventory.registries.clone(),
        resources: Vec::new(),
        state: None,
        after: Vec::new(),
    };
    let name = reader.required("the name of the stack").and_then(|text| stack_name(reading, &text, folder_name));
    let span = reader.span();
    for child in reader.all_children() {
        draft.read(child);
    }
    reader.finish();
    let hosts = draft.selectors.select(reading, inventory, &span);
    let (overrides, host_secrets) =
        draft.overrides_on(inventory, |host| draft.selectors.doubted || hosts.contains(host));
    let secrets = draft.all_secrets(inventory);
    draft.vars.lay_over(&draft.values.vars);
    Some(Stack {
        stopped: draft.state.as_ref().is_some_and(|state| state.raw == "stopped"),
        name: name?,
        folder: draft.folder,
        hosts: hosts.into_iter().collect(),
        vars: draft.vars,
        overrides,
        secrets,
        host_secrets,
        registries: draft.registries,
        resources: draft.resources,
        after: draft.after,
        span,
    })
}

fn stack_name(reading: &Reading<'_>, text: &Text, folder: &str) -> Option<StackName> {
    let name = hosts::name(reading, text, "the name of a stack", StackName::new)?;
    if name.as_str() == folder {
        return Some(name);
    }
    let problem = Problem::error(format!("the stack is called `{name}`, its folder {}", shown(folder)));
    let hint = format!("write `stack \"{folder}\"`, or rename the folder to `stacks/{name}`");
    reading.report(problem.at(&text.span, "here").hint(hint));
    None
}

impl Draft<'_, '_> {
    fn read(&mut self, reader: Reader<'_>) {
        match reader.name() {
            "on" => self.selectors.read_on(reader),
            "except" => self.selectors.read_except(reader),
            "vars" => vars::read_node(reader, &mut self.vars),
            "values" => self.read_values(reader),
            "host" => self.read_override(reader),
            "secret" => secrets::read(self.reading, reader, &self.folder, &mut self.secrets),
            "secrets" => secrets::read_files(self.reading, reader, &self.folder, &mut self.secrets),
            "registry" => self.registries.extend(Registry::decode(reader, &self.folder)),
            "state" => self.read_state(reader),
            "after" => self.read_after(reader),
            node if Spec::NODES.contains(&node) => {
                let span = reader.span();
                self.resources.extend(Spec::decode(reader).map(|spec| (spec, span)));
            }
            _ => {
                self.selectors.doubted = true;
                self.unknown(&reader);
            }
        }
    }

    fn unknown(&self, reader: &Reader<'_>) {
        let name = reader.name();
        let problem = Problem::error(format!("a stack has no node called {}", shown(name)));
        let problem = problem.at(&reader.span(), "unknown");
        let known = || HEADER.into_iter().chain(Spec::NODES);
        self.reading.report(match did_you_mean(name, known()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("a stack knows: {}", known().collect::<Vec<_>>().join(", "))),
        });
    }

    fn read_values(&mut self, mut reader: Reader<'_>) {
        let first = reader.required("the name of a YAML file");
        for file in first.into_iter().chain(reader.args()) {
            if let Some(values) = values::read(self.reading, &self.folder, &file) {
                self.values.lay_over(values);
            }
        }
        reader.finish();
    }

    /// The secrets of the stack over those of the repository. A secret of its own and one among its values cannot have
    /// the same name.
    fn all_secrets(&self, inventory: &Inventory) -> BTreeMap<String, SecretTree> {
        let hosts = self.overrides.iter().map(|(_, values)| &values.secrets);
        for name in hosts.chain([&self.values.secrets]).flat_map(BTreeMap::keys) {
            if let Some((_, span)) = self.secrets.get(name) {
                let problem = Problem::error(format!("the secret {} is one of the values, too", shown(name)));
                self.reading.report(problem.at(span, "here").hint("give one of the two another name"));
            }
        }
        let named = |(name, (secret, _)): (&String, &(SecretTree, Span))| (name.clone(), secret.clone());
        let mut all: BTreeMap<String, SecretTree> = inventory.secrets.iter().map(named).collect();
        all.extend(self.values.secrets.clone());
        all.extend(self.secrets.iter().map(named));
        all
    }

    fn read_override(&mut self, mut reader: Reader<'_>) {
        let host = reader.required("the name of a host");
        let mut own = Values { vars: vars::read(&mut reader), ..Values::default() };
        for file in reader.values("values") {
            if let Some(values) = values::read(self.reading, &self.folder, &file) {
                own.lay_over(values);
            }
        }
        reader.finish();
        let Some(host) = host else { return };
        if let Some((first, _)) = self.overrides.iter().find(|(other, _)| other.raw == host.raw) {
            let problem = Problem::error(format!("the host {} is given twice", shown(&host.raw)));
            let problem = problem.at(&host.span, "the second one").at(&first.span, "the first one");
            self.reading.report(problem.hint("put all of it into one"));
            return;
        }
        self.overrides.push((host, own));
    }

    /// `state "stopped"`: the files are there, and nothing runs.
    fn read_state(&mut self, mut reader: Reader<'_>) {
        let state = reader.required("`running` or `stopped`");
        reader.finish();
        let Some(state) = state else { return };
        if let Some(first) = &self.state {
            let problem = Problem::error("the state of the stack is given twice").at(&state.span, "the second one");
            self.reading.report(problem.at(&first.span, "the first one"));
        } else if !["running", "stopped"].contains(&state.raw.as_str()) {
            let problem = Problem::error(format!("{} is no state of a stack", shown(&state.raw)));
            self.reading.report(problem.at(&state.span, "here").hint("it is `running` or `stopped`"));
        }
        self.state.get_or_insert(state);
    }

    fn read_after(&mut self, mut reader: Reader<'_>) {
        let first = reader.required("the name of a stack");
        for text in first.into_iter().chain(reader.args()) {
            if let Some(name) = hosts::name(self.reading, &text, "the name of a stack", StackName::new) {
                self.after.push((name, text));
            }
        }
        reader.finish();
    }

    /// The overrides by host, and the secrets among them. One for a host that the stack is not on is a mistake.
    fn overrides_on(&self, inventory: &Inventory, is_on: impl Fn(&HostName) -> bool) -> Overrides {
        let (mut overrides, mut secrets) = Overrides::default();
        for (text, values) in &self.overrides {
            match find(&inventory.hosts, &text.raw) {
                Some(host) if is_on(&host) => {
                    secrets.insert(host.clone(), values.secrets.clone());
                    overrides.insert(host, values.vars.clone());
                }
                _ if !inventory.complete => {}
                Some(host) => {
                    let problem = Problem::error(format!("the stack is not on `{host}`")).at(&text.span, "here");
                    self.reading.report(problem.hint(format!("add `on \"{host}\"`, or remove this")));
                }
                None => self.reading.report(unknown_host(text, &inventory.hosts)),
            }
        }
        (overrides, secrets)
    }
}
