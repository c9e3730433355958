//! Units and drop-ins below `/etc/systemd/system`.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::adopt::found::Found;
use crate::adopt::{Candidate, Sorted, kdl};
use crate::base::id::{Kind, ResourceId};
use crate::host::observation::UnitSeen;
use crate::plan::wishes::is_active;
use crate::resource::{unit, unit_file};

/// Where people put units.
pub const FOLDER: &str = "/etc/systemd/system";

const SUFFIXES: [&str; 9] = ["service", "timer", "socket", "path", "mount", "automount", "target", "slice", "swap"];

/// Sorts units and drop-ins.
pub fn sort(found: &Found, known: &BTreeMap<String, String>, sorted: &mut Sorted) {
    let mut units: BTreeSet<String> = BTreeSet::new();
    let mut drop_ins: BTreeMap<String, Vec<Utf8PathBuf>> = BTreeMap::new();
    for path in found.named.files.iter().filter(|path| path.starts_with(FOLDER)) {
        let Some(below) = path.strip_prefix(FOLDER).ok() else { continue };
        let unit = match below.parent().map(Utf8Path::as_str) {
            Some("") => below.as_str(),
            Some(folder) => folder.trim_end_matches(".d"),
            None => continue,
        };
        if !SUFFIXES.contains(&Utf8Path::new(unit).extension().unwrap_or_default()) {
            continue;
        }
        // snapd writes its own units there, and keeps no list that dpkg would know.
        if found.named.packages.contains_key(path) || unit.starts_with("snap-") || unit.starts_with("snap.") {
            sorted.of_packages += 1;
        } else if let Some(who) = known.get(path.as_str()) {
            sorted.leave_out(&path, who.as_str());
        } else if below.as_str() == unit {
            units.insert(unit.into());
        } else {
            drop_ins.entry(unit.into()).or_default().push(path.clone());
        }
    }
    let all: BTreeSet<String> = units.iter().chain(drop_ins.keys()).cloned().collect();
    for name in all {
        let own = drop_ins.remove(&name).unwrap_or_default();
        match candidate(found, &name, units.contains(&name), &own) {
            Ok(candidate) => sorted.candidates.extend(candidate),
            Err((what, why)) => sorted.leave_out(&what, why),
        }
    }
}

/// A unit with its drop-ins; nothing where only drop-ins were found and none of them can be described.
fn candidate(
    found: &Found,
    name: &str,
    has_file: bool,
    drop_ins: &[Utf8PathBuf],
) -> Result<Option<Candidate>, (Utf8PathBuf, String)> {
    let id = ResourceId::new(Kind::Unit, unit::short(name));
    let (mut head, mut body) = (format!("unit {}", kdl::string(&id.name)), Vec::new());
    let (mut files, mut notes) = (BTreeMap::new(), Vec::new());
    for path in drop_ins {
        let copy = Utf8PathBuf::from(format!("systemd/{name}.d")).join(path.file_name().unwrap_or_default());
        match found.bytes(path) {
            Ok(bytes) => {
                let stem = kdl::string(path.file_stem().unwrap_or_default());
                body.push(format!("drop-in {stem} file={}", kdl::string(copy.as_str())));
                files.insert(copy, bytes.to_vec());
            }
            Err(missing) if has_file => notes.push(format!("without {path}: {}", missing.words())),
            Err(missing) => return Err((path.clone(), missing.words())),
        }
    }
    if has_file {
        let path = Utf8Path::new(FOLDER).join(name);
        let bytes = found.bytes(&path).map_err(|missing| (path.clone(), missing.words()))?;
        let copy = Utf8PathBuf::from("systemd").join(name);
        head = format!("{head} file={}", kdl::string(copy.as_str()));
        let unseen = UnitSeen::default();
        let seen = found.seen.units.get(name).unwrap_or(&unseen);
        body.extend(state(name, bytes, seen, found.named.on_demand.contains(name)));
        if seen.active == "failed" {
            notes.push("it has failed, and is described as not running".into());
        }
        files.insert(copy, bytes.to_vec());
    }
    Ok((!files.is_empty()).then(|| Candidate { id, lines: kdl::node(head, body), files, notes }))
}

/// What has to be said of how it is: that a unit is enabled and runs goes without saying.
fn state(name: &str, bytes: &[u8], seen: &UnitSeen, on_demand: bool) -> Vec<String> {
    let directives = unit_file::parse(&String::from_utf8_lossy(bytes));
    let mut lines = Vec::new();
    if name.contains("@.") {
        return lines;
    }
    let installable = directives.keys().any(|(section, _)| section == "Install");
    if installable && !seen.file_state.starts_with("enabled") {
        lines.push("enabled #false".into());
    }
    let oneshot = unit_file::value(&directives, "Service", "Type") == Some("oneshot");
    match is_active(seen) {
        _ if oneshot => {}
        _ if on_demand => lines.push("on-demand".into()),
        active if !active => lines.push("running #false".into()),
        _ => {}
    }
    lines
}
