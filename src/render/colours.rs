//! Services with two places: that somebody sends them requests, and that nobody means them by a name they do not have.

use crate::base::diagnostic::{Problem, Problems};
use crate::base::id::Kind;
use crate::resource::colours::{Colour, Colours};
use crate::resource::{Action, Resource};

/// Checks all of them on a host. `complete` says that no resource is missing because of a mistake of its own.
pub(super) fn check(resources: &[Resource], complete: bool, problems: &mut Problems) {
    for resource in resources {
        let Some(colours) = &resource.colours else { continue };
        if complete && !resources.iter().any(|other| sends(other, resource, colours)) {
            let problem = Problem::warning(format!("no site sends requests to `{}`", resource.id));
            let problem = problem.at(&resource.origin, "its versions take turns behind nginx");
            problems.push(
                problem.hint(format!("add a site, or write `proxy_pass http://{};` in its file", colours.upstream)),
            );
        }
        for other in resources.iter().filter(|other| other.id != resource.id) {
            let taken = Colour::BOTH.into_iter().flat_map(|colour| colours.units(colour));
            for unit in taken.filter(|unit| other.state.units.contains_key(*unit)) {
                let problem = Problem::error(format!("`{unit}` is one of the two places of `{}`", resource.id));
                let problem = problem.at(&other.origin, "taken here").at(&resource.origin, "and needed here");
                problems.push(problem.hint("give one of them another name"));
            }
            if other.reactions.iter().any(|reaction| means(&reaction.action, resource, colours)) {
                let problem = Problem::error(format!("`{}` has two places: neither has its name alone", resource.id));
                let problem = problem.at(&other.origin, "something is done to it here");
                problems.push(
                    problem.hint("with `restart-on` in the unit, or a file that the service mounts, it takes turns"),
                );
            }
        }
    }
}

fn sends(from: &Resource, to: &Resource, colours: &Colours) -> bool {
    let by_name = |host: &str| host == colours.upstream;
    let mut routes = from.wiring.routes.iter();
    from.id.kind == Kind::Site
        && routes.any(|route| {
            route.reference.as_ref() == Some(&to.id) || route.to.as_ref().is_some_and(|(host, _)| by_name(host))
        })
}

/// Whether something is meant for a service by the name that it had with one place.
fn means(action: &Action, resource: &Resource, colours: &Colours) -> bool {
    let is_unit =
        |unit: &str| resource.id.kind == Kind::Unit && unit.strip_suffix(".service") == Some(&colours.service);
    match action {
        Action::Reload(unit) | Action::Restart(unit) | Action::Signal { unit, .. } => is_unit(unit),
        Action::Container { project, service, .. } => {
            resource.state.project.as_ref().is_some_and(|own| own.name == *project)
                && colours.alone.as_ref() == Some(service)
        }
        Action::ByDirective(_) | Action::Recreate { .. } => false,
    }
}
