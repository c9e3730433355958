//! The order in which things are done: needs first, then by kind, then by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::ResourceId;
use crate::plan::rank;
use crate::resource::Resource;

/// The resources in the order in which they are to be applied. A cycle, which rendering refuses, is cut somewhere.
pub fn in_order(resources: &[Resource]) -> Vec<&Resource> {
    let by_id: BTreeMap<&ResourceId, &Resource> = resources.iter().map(|resource| (&resource.id, resource)).collect();
    let mut sorted: Vec<&Resource> = resources.iter().collect();
    sorted.sort_by_key(|resource| (rank(resource.id.kind), &resource.id.name));
    let mut done = BTreeSet::new();
    let mut ordered = Vec::with_capacity(resources.len());
    for resource in sorted {
        visit(resource, &by_id, &mut done, &mut ordered);
    }
    ordered
}

fn visit<'a>(
    resource: &'a Resource,
    by_id: &BTreeMap<&ResourceId, &'a Resource>,
    done: &mut BTreeSet<&'a ResourceId>,
    ordered: &mut Vec<&'a Resource>,
) {
    if !done.insert(&resource.id) {
        return;
    }
    for needed in &resource.needs {
        if let Some(needed) = by_id.get(needed) {
            visit(needed, by_id, done, ordered);
        }
    }
    ordered.push(resource);
}

/// Everything that each resource needs, directly or through others.
pub fn all_needs(resources: &[Resource]) -> BTreeMap<&ResourceId, BTreeSet<&ResourceId>> {
    let mut all: BTreeMap<&ResourceId, BTreeSet<&ResourceId>> = BTreeMap::new();
    for resource in in_order(resources) {
        let mut needs = BTreeSet::new();
        for needed in &resource.needs {
            needs.insert(needed);
            if let Some(further) = all.get(needed) {
                needs.extend(further.iter().copied());
            }
        }
        all.insert(&resource.id, needs);
    }
    all
}
