//! Two resources that want to be the same thing.

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::base::diagnostic::{Problem, Problems};
use crate::resource::Resource;
use crate::resource::state::PathState;

/// Reports resources with the same id, and paths that two resources write. The resources are sorted by id.
pub(super) fn check(resources: &[Resource], problems: &mut Problems) {
    for pair in resources.windows(2).filter(|pair| pair[0].id == pair[1].id) {
        let (first, second) = in_order(&pair[0], &pair[1]);
        let problem = Problem::error(format!("`{}` is described twice for the same host", first.id));
        let problem = problem.at(&second.origin, "the second one").at(&first.origin, "the first one");
        problems.push(if first.stack == second.stack {
            problem.hint("remove one of them, or give it another name")
        } else {
            problem.hint(format!("stacks `{}` and `{}` meet on this host", first.stack, second.stack))
        });
    }
    let mut owners: BTreeMap<&Utf8Path, (&Resource, &PathState)> = BTreeMap::new();
    for resource in resources {
        for (path, state) in &resource.state.paths {
            match owners.get(path.as_path()) {
                Some((other, _)) if other.id != resource.id => problems.push(same_path(path, other, resource)),
                Some(_) => {}
                None => {
                    owners.insert(path, (resource, state));
                }
            }
        }
    }
    for (path, (resource, _)) in &owners {
        let above = path.ancestors().skip(1).find_map(|above| Some((above, owners.get(above)?)));
        if let Some((above, (other, PathState::File { .. }))) = above {
            let message = format!("`{path}` cannot be: `{above}` is a file, not a directory");
            let problem = Problem::error(message).at(&resource.origin, "writes the path below");
            problems.push(problem.at(&other.origin, "makes it a file"));
        }
    }
}

fn same_path(path: &Utf8Path, one: &Resource, two: &Resource) -> Problem {
    let (first, second) = in_order(one, two);
    let problem = Problem::error(format!("both `{}` and `{}` write `{path}`", first.id, second.id));
    problem.at(&second.origin, "the second one").at(&first.origin, "the first one").hint("only one of them can own it")
}

/// In the order in which they stand in the files.
fn in_order<'r>(one: &'r Resource, two: &'r Resource) -> (&'r Resource, &'r Resource) {
    let place = |resource: &'r Resource| (resource.origin.path(), resource.origin.offset);
    if place(one) <= place(two) { (one, two) } else { (two, one) }
}
