//! Sites of nginx: `sites-available` with their links, `sites-enabled`, `conf.d`.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::adopt::found::Found;
use crate::adopt::{Candidate, Sorted, kdl};
use crate::base::id::{Kind, ResourceId};
use crate::host::observation::Thing;
use crate::plan::wishes::is_active;
use crate::resource::nginx;

const FOLDER: &str = "/etc/nginx";
const AVAILABLE: &str = "/etc/nginx/sites-available";
const ENABLED: &str = "/etc/nginx/sites-enabled";

/// Sorts files of nginx.
pub fn sort(found: &Found, known: &BTreeMap<String, String>, sorted: &mut Sorted) {
    let mut names = BTreeSet::new();
    let runs = found.seen.units.get("nginx.service").is_some_and(is_active);
    for path in found.named.files.iter().filter(|path| path.starts_with(FOLDER)) {
        if found.named.packages.contains_key(path) {
            sorted.of_packages += 1;
        } else if let Some(who) = known.get(path.as_str()) {
            sorted.leave_out(&path, who.as_str());
        } else if !runs {
            sorted.leave_out(&path, "nginx does not run there, and a site wants it to");
        } else {
            match candidate(found, path, &mut names) {
                Ok(candidate) => sorted.candidates.push(candidate),
                Err(why) => sorted.leave_out(&path, why),
            }
        }
    }
}

fn candidate(found: &Found, path: &Utf8Path, names: &mut BTreeSet<String>) -> Result<Candidate, String> {
    let bytes = found.bytes(path).map_err(|missing| missing.words())?;
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let copy = Utf8PathBuf::from("nginx").join(path.strip_prefix(FOLDER).unwrap_or(path));
    let files = BTreeMap::from([(copy.clone(), bytes.to_vec())]);
    let serves = nginx::parse(text).is_ok_and(|all| all.iter().any(|directive| directive.name == "server"));
    if !serves {
        // Settings for all sites: a file like any other, but for the reload.
        let head = format!("file {} source={}", kdl::string(path.as_str()), kdl::string(copy.as_str()));
        let lines = kdl::node(head, vec!["on-change reload=\"nginx\"".into()]);
        let id = ResourceId::new(Kind::File, path.as_str());
        return Ok(Candidate { id, lines, files, notes: Vec::new() });
    }
    let name = name(path, names);
    let mut body = Vec::new();
    if path.as_str() != format!("{AVAILABLE}/{name}.conf") {
        body.push(format!("path {}", kdl::string(path.as_str())));
    }
    if path.starts_with(AVAILABLE) {
        body.extend(link(found, path)?);
    }
    let head = format!("site {} file={}", kdl::string(&name), kdl::string(copy.as_str()));
    let id = ResourceId::new(Kind::Site, name);
    Ok(Candidate { id, lines: kdl::node(head, body), files, notes: Vec::new() })
}

/// What has to be said of the link that makes nginx read a file of `sites-available`.
fn link(found: &Found, path: &Utf8Path) -> Result<Option<String>, String> {
    let leads_here = |target: &str| Utf8Path::new(ENABLED).join(target) == path || is_up_and_down(target, path);
    let mut links = found.named.links.iter().filter(|link| link.starts_with(ENABLED)).filter_map(|link| {
        match &found.at(link)?.thing {
            Thing::Link(target) if leads_here(target) => Some((link, target)),
            _ => None,
        }
    });
    match links.next() {
        None => Ok(Some("enabled #false".into())),
        Some((link, _)) if link.file_name() != path.file_name() => {
            Err(format!("its link {link} has another name: rename one of them"))
        }
        Some((_, target)) if target == path.as_str() => Ok(None),
        Some((_, target)) => Ok(Some(format!("link {}", kdl::string(target)))),
    }
}

/// `../sites-available/NAME`.
fn is_up_and_down(target: &str, path: &Utf8Path) -> bool {
    target.strip_prefix("../").is_some_and(|below| Utf8Path::new(FOLDER).join(below) == path)
}

/// A name for the site: the file's, as far as a site can have it, and one that no other has.
fn name(path: &Utf8Path, names: &mut BTreeSet<String>) -> String {
    let file = path.file_name().unwrap_or_default();
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let stem: String = file.strip_suffix(".conf").unwrap_or(file).chars().map(clean).collect();
    let stem = stem.trim_matches(['-', '.']).replace("..", ".");
    let stem = if stem.is_empty() { "site".into() } else { stem };
    let mut name = stem.clone();
    for number in 2.. {
        if names.insert(name.clone()) {
            break;
        }
        name = format!("{stem}-{number}");
    }
    name
}
