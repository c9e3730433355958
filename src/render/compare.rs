//! What differs between two renderings of a host, such as before and after a commit. Data only.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use crate::base::id::ResourceId;
use crate::resource::state::{PathState, Project, UnitState};
use crate::resource::{Desired, Resource};

/// What becomes of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// The resource.
    pub id: ResourceId,
    /// Whether it comes, goes or stays.
    pub kind: ChangeKind,
    /// Files, directories and links that differ.
    pub paths: Vec<(Utf8PathBuf, Sides<PathState>)>,
    /// Units whose wanted state differs.
    pub units: Vec<(String, Sides<UnitState>)>,
    /// The Compose project, if it differs.
    pub project: Option<Sides<Project>>,
    /// Packages that come.
    pub packages_added: Vec<String>,
    /// Packages that go.
    pub packages_removed: Vec<String>,
    /// What else differs: `reactions`, `checks`, `needs`, `stack`.
    pub besides: Vec<&'static str>,
}

/// Whether a resource comes, goes or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only after.
    Added,
    /// Only before.
    Removed,
    /// Before and after, but not the same.
    Changed,
}

/// How something was and how it is; one of them may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides<T> {
    /// Before.
    pub before: Option<T>,
    /// After.
    pub after: Option<T>,
}

/// Every resource that differs, sorted by id.
pub fn compare(before: &Desired, after: &Desired) -> Vec<ResourceChange> {
    let by_id = |desired: &'_ Desired| -> BTreeMap<ResourceId, Resource> {
        desired.resources.iter().map(|resource| (resource.id.clone(), resource.clone())).collect()
    };
    let (before, after) = (by_id(before), by_id(after));
    let ids: BTreeSet<&ResourceId> = before.keys().chain(after.keys()).collect();
    ids.into_iter().filter_map(|id| change(id, before.get(id), after.get(id))).collect()
}

fn change(id: &ResourceId, before: Option<&Resource>, after: Option<&Resource>) -> Option<ResourceChange> {
    let kind = match (before, after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    };
    let empty = crate::resource::state::State::default();
    let (old, new) = (before.map_or(&empty, |r| &r.state), after.map_or(&empty, |r| &r.state));
    let project = Sides { before: old.project.clone(), after: new.project.clone() };
    let change = ResourceChange {
        id: id.clone(),
        kind,
        paths: differing(&old.paths, &new.paths),
        units: differing(&old.units, &new.units),
        project: (project.before != project.after).then_some(project),
        packages_added: new.packages.difference(&old.packages).cloned().collect(),
        packages_removed: old.packages.difference(&new.packages).cloned().collect(),
        besides: before.zip(after).map(|(before, after)| besides(before, after)).unwrap_or_default(),
    };
    let same = kind == ChangeKind::Changed && old == new && change.besides.is_empty();
    (!same).then_some(change)
}

fn differing<K: Ord + Clone, T: PartialEq + Clone>(
    before: &BTreeMap<K, T>,
    after: &BTreeMap<K, T>,
) -> Vec<(K, Sides<T>)> {
    let keys: BTreeSet<&K> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(key) != after.get(key))
        .map(|key| (key.clone(), Sides { before: before.get(key).cloned(), after: after.get(key).cloned() }))
        .collect()
}

fn besides(before: &Resource, after: &Resource) -> Vec<&'static str> {
    let differs = [
        ("reactions", before.reactions != after.reactions),
        ("checks", before.checks != after.checks),
        ("needs", before.needs != after.needs),
        ("stack", before.stack != after.stack),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
