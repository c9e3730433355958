//! The way of a request over all resources of a host: a tunnel's rule, the site it leads to, the port behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diagnostic::{Problem, Problems, Span, did_you_mean};
use crate::base::id::Kind;
use crate::resource::state::PathState;
use crate::resource::{Resource, Route};

/// Checks all routes of a host. `complete` says that no resource is missing because of a mistake of its own.
pub(super) fn check(resources: &[Resource], complete: bool, problems: &mut Problems) {
    let (host, mut unheard) = (Host::new(resources), BTreeSet::new());
    for resource in resources {
        if resource.id.kind == Kind::Tunnel {
            shadowed(&resource.wiring.routes, problems);
        }
        for route in &resource.wiring.routes {
            if resource.id.kind == Kind::Tunnel && host.opaque_sites == 0 && !renames(resource) {
                served(route, &host, problems);
            }
            if complete {
                heard(route, &host, &mut unheard, problems);
            }
        }
    }
}

/// Who answers where on one host.
struct Host<'r> {
    /// The sites by the ports at which they listen.
    sites: BTreeMap<u16, Vec<&'r Resource>>,
    /// Every port at which something managed listens.
    ports: BTreeSet<u16>,
    /// Sites that are files of their own, of which we know neither names nor ports.
    opaque_sites: usize,
}

impl<'r> Host<'r> {
    fn new(resources: &'r [Resource]) -> Self {
        let mut host = Host { sites: BTreeMap::new(), ports: BTreeSet::new(), opaque_sites: 0 };
        for resource in resources {
            let wiring = &resource.wiring;
            let is_site = resource.id.kind == Kind::Site;
            host.opaque_sites += usize::from(is_site && wiring.listens.is_empty() && wiring.serves.is_empty());
            for listen in &wiring.listens {
                host.ports.insert(listen.port);
                if is_site {
                    host.sites.entry(listen.port).or_default().push(resource);
                }
            }
        }
        host
    }
}

/// The port, if the route leads to this very host.
fn local_port(route: &Route) -> Option<u16> {
    let (address, port) = route.to.as_ref()?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let local = address == "localhost" || address == "::1" || address == "0.0.0.0" || address.starts_with("127.");
    local.then_some(*port)
}

/// A tunnel's rule for a name that no site at its target serves. nginx would answer with whichever site comes first.
fn served(route: &Route, host: &Host<'_>, problems: &mut Problems) {
    let (Some(name), Some(port)) = (&route.name, local_port(route)) else { return };
    let Some(sites) = host.sites.get(&port) else { return };
    let names: Vec<&(String, Span)> = sites.iter().flat_map(|site| &site.wiring.serves).collect();
    if names.iter().any(|(served, _)| meets(served, name)) {
        return;
    }
    let everywhere = host.sites.values().flatten().flat_map(|site| &site.wiring.serves);
    let elsewhere = everywhere.map(|(served, _)| served.as_str()).find(|served| meets(served, name));
    let message = format!("no site on port {port} serves `{name}`");
    let mut problem = Problem::error(message).at(&route.span, "requests for it are sent there");
    let near = did_you_mean(name, names.iter().map(|(served, _)| served.as_str()));
    let shown = near.and_then(|near| names.iter().find(|(served, _)| served == near)).or(names.first());
    if let Some((served, span)) = shown {
        problem = problem.at(span, format!("`{served}` is served there"));
    }
    problems.push(match (near, elsewhere) {
        (_, Some(_)) => problem.hint("a site on another port serves it: write `to=\"site:…\"` to be sure"),
        (Some(near), None) => problem.hint(format!("did you mean `{near}`?")),
        (None, None) => problem.hint(format!("add `server-name \"{name}\"` to the site")),
    });
}

/// Whether nginx takes the server name `pattern` for `name`, which may itself begin with `*.`.
fn meets(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    if pattern == name || pattern == "_" || pattern == "*" || pattern.starts_with('~') {
        return true;
    }
    if let Some(domain) = name.strip_prefix("*.") {
        // A rule for many names is right as soon as one of them is served.
        return pattern.ends_with(&format!(".{domain}"));
    }
    if let Some(rest) = pattern.strip_prefix("*.") {
        return name.strip_suffix(rest).is_some_and(|front| front.ends_with('.') && front.len() > 1);
    }
    if let Some(rest) = pattern.strip_prefix('.') {
        return name == rest || name.ends_with(&pattern);
    }
    pattern.strip_suffix(".*").is_some_and(|front| name.strip_prefix(front).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether a tunnel asks for other names than those of its rules (`origin-host`).
fn renames(tunnel: &Resource) -> bool {
    const HEADER: &[u8] = b"httpHostHeader";
    tunnel.state.paths.values().any(|state| match state {
        PathState::File { content, .. } => content.bytes.windows(HEADER.len()).any(|window| window == HEADER),
        _ => false,
    })
}

/// A port of this host at which nothing managed listens. Of each such port one route tells; `unheard` are those that were
/// told of.
fn heard(route: &Route, host: &Host<'_>, unheard: &mut BTreeSet<u16>, problems: &mut Problems) {
    let Some(port) = local_port(route) else { return };
    if host.ports.contains(&port) || host.opaque_sites > 0 {
        return;
    }
    if let Some(id) = &route.reference {
        let message = format!("`{id}` does not listen on port {port}");
        problems.push(Problem::error(message).at(&route.span, "sent there"));
    } else if unheard.insert(port) {
        let problem = Problem::warning(format!("nothing that is managed here listens on port {port}"));
        let in_stack = route.span.path().extension() == Some("kdl");
        problems.push(problem.at(&route.span, "sent there").hint(if in_stack {
            format!("name the resource, as in `to=\"unit:…\"`, or add `listen {port}` to the unit that does")
        } else {
            format!("add `listen {port}` to the unit that does; if nothing of this repository does, leave it as it is")
        }));
    }
}

/// Rules that are never asked, because one before them takes all their requests.
fn shadowed(routes: &[Route], problems: &mut Problems) {
    for (index, later) in routes.iter().enumerate() {
        let Some(earlier) = routes[..index].iter().find(|earlier| covers(earlier, later)) else { continue };
        let same = earlier.name == later.name && bare(&earlier.path) == bare(&later.path);
        let (message, hint) = if earlier.name.is_none() && bare(&earlier.path).is_empty() {
            ("this rule comes after the one for everything else, so it is never asked", "put `otherwise` last")
        } else if same {
            ("this rule is there twice", "remove one of them: only the first is ever asked")
        } else {
            ("this rule is never asked: a broader one comes before it", "put the narrower rule first")
        };
        let problem = Problem::error(message).at(&later.span, "never asked");
        problems.push(problem.at(&earlier.span, "takes its requests").hint(hint));
    }
}

fn covers(earlier: &Route, later: &Route) -> bool {
    let names = match (&earlier.name, &later.name) {
        (None, _) => true,
        (Some(earlier), Some(later)) => {
            let wildcard =
                earlier.strip_prefix('*').is_some_and(|domain| domain.starts_with('.') && later.ends_with(domain));
            wildcard || earlier == "*" || earlier.eq_ignore_ascii_case(later)
        }
        (Some(_), None) => false,
    };
    let (broad, narrow) = (bare(&earlier.path), bare(&later.path));
    let below = narrow.strip_prefix(broad).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    names && (broad.is_empty() || below)
}

/// A path prefix without its slash at the end: `/` is everything.
fn bare(path: &str) -> &str {
    path.trim_end_matches('/')
}
