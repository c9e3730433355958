//! Compose projects, from the labels of their containers.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::adopt::found::{Found, Missing};
use crate::adopt::{Candidate, Sorted, kdl};
use crate::base::id::{Kind, ResourceId};
use crate::host::discovery::ProjectFound;
use crate::resource::compose;

/// Sorts projects.
pub fn sort(found: &Found, known: &BTreeMap<String, String>, sorted: &mut Sorted) {
    for (name, project) in &found.named.projects {
        let id = ResourceId::new(Kind::Compose, name);
        if let Some(who) = known.get(&id.to_string()) {
            sorted.leave_out(&id, who.as_str());
            continue;
        }
        match candidate(found, &id, project) {
            Ok(candidate) => sorted.candidates.push(candidate),
            Err(why) => sorted.leave_out(&id, why),
        }
    }
}

fn candidate(found: &Found, id: &ResourceId, project: &ProjectFound) -> Result<Candidate, String> {
    let directory = &project.directory;
    if project.is_mixed {
        return Err("its containers were not all started with the same files: `docker compose up` it once".into());
    }
    if let Some(other) = project.env_files.iter().find(|path| **path != directory.join(".env")) {
        return Err(format!("it was started with the env file {other}: only the .env of its directory can be kept"));
    }
    let copies = Utf8PathBuf::from(format!("compose/{}", id.name));
    let (mut body, mut files, mut notes) = (Vec::new(), BTreeMap::new(), Vec::new());
    if *directory != format!("/srv/{}", id.name) {
        body.push(format!("directory {}", kdl::string(directory.as_str())));
    }
    for path in &project.files {
        let below = path.strip_prefix(directory).ok().filter(|below| below.components().count() == 1);
        let below = below.ok_or_else(|| format!("its file {path} does not lie right in {directory}"))?;
        let bytes = found.bytes(path).map_err(|missing| format!("{path}: {}", missing.words()))?;
        let copy = copies.join(below);
        body.push(format!("file {}", kdl::string(copy.as_str())));
        files.insert(copy, bytes.to_vec());
        beside(found, directory, &copies, bytes, (&mut files, &mut body, &mut notes));
    }
    let first = project.files.first().and_then(|path| found.at(path)).ok_or("it names no file")?;
    for (word, name) in [("owner", &first.owner.user), ("group", &first.owner.group)] {
        if name != "root" || (word == "group" && first.owner.user != "root") {
            body.push(format!("{word} {}", kdl::string(name)));
        }
    }
    let containers = found.seen.containers.as_ref().and_then(|all| all.as_ref().ok());
    let mut own = containers.into_iter().flatten().filter(|container| container.project == id.name);
    if !own.any(|container| container.state == "running") {
        body.push("running #false".into());
    }
    if found.at(&directory.join(".env")).is_some() {
        notes.push(".env stays where it is, and is not copied: it is where secrets are. `env` describes it".into());
    }
    let head = format!("compose {}", kdl::string(&id.name));
    Ok(Candidate { id: id.clone(), lines: kdl::node(head, body), files, notes })
}

/// The files that a Compose file mounts from beside it.
fn beside(
    found: &Found,
    directory: &Utf8Path,
    copies: &Utf8Path,
    compose_file: &[u8],
    (files, body, notes): (&mut BTreeMap<Utf8PathBuf, Vec<u8>>, &mut Vec<String>, &mut Vec<String>),
) {
    for below in compose::beside(compose_file) {
        let path = directory.join(&below);
        match found.bytes(&path) {
            // Env files are where secrets are, whoever may read them.
            Ok(_) if is_env(&below) => notes.push(format!("{path} stays where it is, and is not copied: secrets?")),
            Ok(bytes) => {
                let mode = found.at(&path).map_or(0o644, |seen| seen.mode);
                if files.insert(copies.join(&below), bytes.to_vec()).is_none() && mode != 0o644 {
                    body.push(format!("mount {} mode=\"{mode:04o}\"", kdl::string(below.as_str())));
                }
            }
            Err(Missing::Closed) => notes.push(format!("without {path}: {}", Missing::Closed.words())),
            // Folders hold data.
            Err(Missing::Unfit(_)) => {}
        }
    }
}

fn is_env(path: &Utf8Path) -> bool {
    path.file_name().is_some_and(|name| name.starts_with(".env")) || path.extension() == Some("env")
}
