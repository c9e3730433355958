//! Taking over what was set up by hand: from what is found on a host to a stack that says exactly the same.
//!
//! A thing that is found becomes a [`Candidate`]: a few lines of a stack, and its files as they are. Candidates are
//! not trusted to be right. The stack is planned before it is written, and a candidate is left out unless its plan is to
//! change nothing but the owner (see [`trial`]). So the next plan is empty because it has been made already.

mod compose;
mod found;
mod kdl;
mod nginx;
mod suspicion;
mod systemd;
mod trial;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use crate::base::id::{HostName, ResourceId, StackName};

pub use found::{Found, look};
pub use trial::{Trial, with_files};

/// Something that a stack can describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The resource.
    pub id: ResourceId,
    /// The lines that describe it.
    pub lines: Vec<String>,
    /// Its files, by their path in the stack's folder.
    pub files: BTreeMap<Utf8PathBuf, Vec<u8>>,
    /// What is worth knowing of it.
    pub notes: Vec<String>,
}

/// Something that is left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// What: a resource or a path.
    pub what: String,
    /// Why, and what to do.
    pub why: String,
}

/// Everything that was found, sorted into what can be described and what cannot.
#[derive(Debug, Default)]
pub struct Sorted {
    /// What can be described, in the order in which a stack names it.
    pub candidates: Vec<Candidate>,
    /// What is left out.
    pub left_out: Vec<LeftOut>,
    /// How many files belong to packages: they are nobody's work, and not worth a line each.
    pub of_packages: usize,
}

impl Sorted {
    fn leave_out(&mut self, what: &dyn ToString, why: impl Into<String>) {
        self.left_out.push(LeftOut { what: what.to_string(), why: why.into() });
    }
}

/// What of the things that were found can be described, `known` being the paths and projects that are described or owned
/// already, each with who says so.
pub fn sort(found: &Found, known: &BTreeMap<String, String>) -> Sorted {
    let mut sorted = Sorted::default();
    systemd::sort(found, known, &mut sorted);
    compose::sort(found, known, &mut sorted);
    nginx::sort(found, known, &mut sorted);
    for candidate in &mut sorted.candidates {
        for (path, bytes) in &candidate.files {
            let lines = suspicion::lines(bytes).into_iter().map(|line| {
                format!("{path}:{line} looks like a secret: read it before you commit, and give it as `{{{{ secret.NAME }}}}`")
            });
            candidate.notes.extend(lines);
        }
    }
    sorted
}

/// The text of `stack.kdl`.
pub fn stack_text(stack: &StackName, host: &HostName, candidates: &[Candidate]) -> String {
    let mut body = vec![format!("on {}", kdl::string(host.as_str()))];
    for candidate in candidates {
        body.push(String::new());
        body.extend(candidate.lines.iter().cloned());
    }
    let mut lines = vec![format!("// What ran on {host} when it was adopted, as it was there.")];
    lines.extend(kdl::node(format!("stack {}", kdl::string(stack.as_str())), body));
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// All files of a stack, by their path in the repository.
pub fn stack_files(stack: &StackName, host: &HostName, candidates: &[Candidate]) -> BTreeMap<Utf8PathBuf, Vec<u8>> {
    let folder = Utf8PathBuf::from(format!("stacks/{stack}"));
    let own = candidates.iter().flat_map(|candidate| &candidate.files);
    let mut files: BTreeMap<_, _> = own.map(|(path, bytes)| (folder.join(path), bytes.clone())).collect();
    files.insert(folder.join("stack.kdl"), stack_text(stack, host, candidates).into_bytes());
    files
}

/// The resources of candidates.
pub fn ids(candidates: &[Candidate]) -> BTreeSet<ResourceId> {
    candidates.iter().map(|candidate| candidate.id.clone()).collect()
}
