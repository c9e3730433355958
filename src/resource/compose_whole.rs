//! All files of a Compose project put together as Compose does it: laid over each other, with what they include and
//! extend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Problem, Source, Span, did_you_mean};
use crate::resource::compose_env;
use crate::resource::compose_file::{self, ComposeFile, Context, Include, Named, Part, Service, Use};
use crate::resource::compose_mount::Shipped;
use crate::resource::lowering::Lowering;
use crate::resource::yaml;

/// How many services may extend each other in a row.
const MAX_DEPTH: usize = 16;

/// What a project says as a whole.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    /// Its services, by name.
    pub services: BTreeMap<String, Service>,
    /// The files besides the first ones from which it was read.
    pub reads: Vec<Named>,
    parts: BTreeSet<(Part, String)>,
    external: BTreeSet<String>,
    /// Files that the repository does not have: then it is not known what else there is.
    incomplete: bool,
}

/// A text with services in it.
pub struct Text {
    /// Its text.
    pub source: Arc<Source>,
    /// The line of the stack, where the text was rendered and so stands nowhere.
    pub instead: Option<Span>,
}

/// Variables for interpolation.
type Variables = BTreeMap<String, String>;

impl Whole {
    /// Reads a project whose own paths are relative to `base`; `None` if a file is not YAML, which is reported.
    pub fn read(
        on: &Lowering<'_>,
        files: &[Text],
        base: &Utf8Path,
        variables: &Variables,
        origin: &Span,
    ) -> Option<Self> {
        let mut walk = Walk { on, origin, whole: Whole::default(), seen: BTreeSet::new() };
        walk.layers(files, base, variables)?;
        if walk.whole.services.is_empty() && !walk.whole.incomplete {
            let problem = Problem::error("this project has no services").at(origin, "this project");
            on.report(problem.hint("they stand below `services:` in the Compose file"));
        }
        Some(walk.whole)
    }

    /// The services that are built on the host, each with the folders its image is made from.
    pub fn builds(
        &self,
        on: &Lowering<'_>,
        origin: &Span,
        shipped: &Shipped<'_>,
    ) -> BTreeMap<String, Vec<Utf8PathBuf>> {
        let built = self.services.values().filter(|service| service.build.is_some());
        built.map(|service| (service.name.clone(), self.contexts(on, origin, service, shipped))).collect()
    }

    /// The folders of a service and of all whose image it begins with.
    fn contexts(&self, on: &Lowering<'_>, origin: &Span, service: &Service, shipped: &Shipped<'_>) -> Vec<Utf8PathBuf> {
        let (mut waiting, mut seen) = (vec![service], BTreeSet::new());
        let mut folders = Vec::new();
        while let Some(service) = waiting.pop() {
            if !seen.insert(&service.name) {
                continue;
            }
            folders.extend(service.build.as_ref().and_then(|context| shipped.context(context)));
            waiting.extend(self.bases(on, origin, service));
        }
        folders
    }

    /// The built services whose image a service begins with.
    pub fn bases(&self, on: &Lowering<'_>, origin: &Span, service: &Service) -> Vec<&Service> {
        let recipe = service.recipe().and_then(|path| on.source(&path, origin));
        let begins_with = |image: &String| recipe.as_ref().is_some_and(|recipe| is_base(&recipe.text, image));
        let built = self.services.values().filter(|other| other.build.is_some());
        built.filter(|other| other.image.as_ref().is_some_and(begins_with)).collect()
    }

    /// Whether a network is not the project's own.
    pub fn is_external(&self, network: &str) -> bool {
        self.external.contains(network)
    }

    /// Reports what a service that runs needs and nothing in the project says. Compose would refuse the whole.
    pub fn check(&self, active: &[&Service], on: &Lowering<'_>) {
        if self.incomplete {
            return;
        }
        for used in active.iter().flat_map(|service| &service.uses) {
            let Use { part, name, span } = used;
            let own = *part == Part::Network && name == "default";
            if own || self.parts.contains(&(*part, name.clone())) {
                continue;
            }
            let known = self.parts.iter().filter(|(known, _)| known == part).map(|(_, name)| name.as_str());
            let key = part.key();
            let problem = Problem::error(format!("`{key}` of this project has no `{name}`")).at(span, "needed here");
            on.report(match did_you_mean(name, known) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None if *part == Part::Service => problem.hint("name a service of the project"),
                None => problem.hint(format!("add `{name}:` to `{key}:` at the top level of the Compose file")),
            });
        }
    }
}

/// Whether a Dockerfile takes something from an image: `FROM image` or `COPY --from=image`.
fn is_base(recipe: &str, image: &str) -> bool {
    let mut words = recipe.split_whitespace().map(|word| word.trim_start_matches("--from="));
    words.any(|word| word == image || word.strip_suffix(":latest") == Some(image))
}

struct Walk<'a> {
    on: &'a Lowering<'a>,
    origin: &'a Span,
    whole: Whole,
    seen: BTreeSet<Utf8PathBuf>,
}

impl Walk<'_> {
    /// Files that are read one over the other, and what each of them includes.
    fn layers(&mut self, files: &[Text], base: &Utf8Path, variables: &Variables) -> Option<()> {
        for text in files {
            let file = self.parse(text, base, variables)?;
            for service in &file.services {
                let service = self.extended(service, &file, base, variables, 0)?;
                self.whole
                    .services
                    .entry(service.name.clone())
                    .and_modify(|known| known.add(service.clone()))
                    .or_insert(service);
            }
            self.whole.parts.extend(file.parts);
            self.whole.external.extend(file.external);
            for include in file.includes {
                self.include(include, variables)?;
            }
        }
        Some(())
    }

    fn include(&mut self, include: Include, variables: &Variables) -> Option<()> {
        let mut texts = Vec::new();
        let mut variables = variables.clone();
        let beside = Named { written: ".env".into(), base: include.directory.clone() };
        let env_files = if include.env_files.is_empty() { vec![beside] } else { include.env_files };
        for named in env_files {
            if let Some(source) = self.source(&named).filter(|_| named.path().is_some()) {
                for (name, value) in compose_env::plain_lines(&source) {
                    variables.entry(name).or_insert(value);
                }
            }
            self.whole.reads.push(named);
        }
        for named in include.files {
            match self.source(&named) {
                Some(source) if self.seen.insert(source.path.clone()) => texts.push(Text { source, instead: None }),
                Some(_) => {}
                None => self.whole.incomplete = true,
            }
            self.whole.reads.push(named);
        }
        self.layers(&texts, &include.directory, &variables)
    }

    /// A service on top of the one it extends.
    fn extended(
        &mut self,
        service: &Service,
        file: &ComposeFile,
        base: &Utf8Path,
        variables: &Variables,
        depth: usize,
    ) -> Option<Service> {
        let Some((from, name)) = service.extends.as_ref().filter(|_| depth < MAX_DEPTH) else {
            return Some(service.clone());
        };
        let find = |file: &ComposeFile| file.services.iter().find(|service| service.name == *name).cloned();
        let below = match from {
            None => match find(file) {
                Some(below) => Some(self.extended(&below, file, base, variables, depth + 1)?),
                None => None,
            },
            Some(written) => {
                let named = Named { written: written.clone(), base: base.to_path_buf() };
                let source = self.source(&named);
                self.whole.reads.push(named);
                match source {
                    Some(source) => {
                        let folder = source.path.parent().unwrap_or(base).to_path_buf();
                        let other = self.parse(&Text { source, instead: None }, &folder, variables)?;
                        match find(&other) {
                            Some(below) => Some(self.extended(&below, &other, &folder, variables, depth + 1)?),
                            None => None,
                        }
                    }
                    None => None,
                }
            }
        };
        let Some(mut below) = below else {
            self.whole.incomplete = true;
            return Some(service.clone());
        };
        below.add(service.clone());
        below.name.clone_from(&service.name);
        Some(below)
    }

    fn source(&self, named: &Named) -> Option<Arc<Source>> {
        self.on.source(&named.path()?, self.origin)
    }

    fn parse(&self, text: &Text, base: &Utf8Path, variables: &Variables) -> Option<ComposeFile> {
        match yaml::parse(&text.source, text.instead.as_ref()) {
            Ok(root) => {
                let context = Context { source: &text.source, base, instead: text.instead.as_ref(), variables };
                Some(compose_file::read(&root, &context))
            }
            Err(problem) => {
                self.on.report(*problem);
                None
            }
        }
    }
}
