//! Which hosts serve in which pools of which proxies.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Problem, Problems, Span};
use crate::base::id::{HostName, ResourceId, StackName};
use crate::engine::Setup;
use crate::engine::host::Ready;
use crate::load::Config;
use crate::plan::HostPlan;
use crate::plan::waves::Drain;
use crate::render::render;
use crate::resource::Resource;
use crate::resource::pool::Upstream;

/// A pool on a host, and which site of which stack has it.
pub type Pooled = (ResourceId, StackName, Upstream);

/// The pools among resources.
pub fn pools(resources: &[Resource]) -> Vec<Pooled> {
    let of = |resource: &Resource| {
        let (id, stack) = (resource.id.clone(), resource.stack.clone());
        resource.wiring.pools.iter().map(move |pool| (id.clone(), stack.clone(), pool.clone())).collect::<Vec<_>>()
    };
    resources.iter().flat_map(of).collect()
}

/// What is to be taken out of service for the hosts whose plans have effects; and pools that are not known.
pub fn drains(
    setup: &Setup,
    ready: &BTreeMap<HostName, Ready>,
    rewritten: &BTreeSet<(HostName, Utf8PathBuf)>,
) -> (Vec<Drain>, Problems) {
    let config = &setup.config;
    let is_live = |host: &HostName| config.hosts.get(host).is_some_and(|host| host.target.is_live());
    let disturbs = |plan: &HostPlan| plan.carried_out().any(|transaction| !transaction.effects.is_empty());
    let disturbed = |host: &HostName| is_live(host) && ready.get(host).is_some_and(|ready| disturbs(&ready.plan));
    let with_pools = config.stacks.values().filter(|stack| stack.resources.iter().any(|(spec, _)| spec.drains()));
    let proxies: BTreeSet<&HostName> = with_pools.flat_map(|stack| &stack.hosts).filter(|host| is_live(host)).collect();
    let (mut drains, mut problems) = (Vec::new(), Problems::default());
    for proxy in proxies.into_iter().filter(|_| ready.keys().any(disturbed)) {
        // What is not a part of the run has not been asked for facts: sites that need some are not known then.
        let pools = if let Some(ready) = ready.get(proxy) {
            ready.pools.clone()
        } else {
            let rendering = render(config, proxy, None);
            unknown(config, proxy, &rendering.waiting).for_each(|problem| problems.push(problem));
            pools(&rendering.desired.resources)
        };
        for (site, stack, pool) in pools.into_iter().filter(|(_, _, pool)| pool.servers > 1) {
            // A host whose own file changes at the same time cannot have it marked meanwhile.
            let by_itself = rewritten.contains(&(proxy.clone(), pool.path.clone()));
            let can = |host: &HostName| disturbed(host) && !(host == proxy && by_itself);
            let members = pool.members.iter().filter(|(host, _)| can(host));
            drains.extend(members.map(|(host, address)| Drain {
                host: host.clone(),
                proxy: proxy.clone(),
                site: site.clone(),
                stack: stack.clone(),
                pool: pool.pool.clone(),
                upstream: pool.name.clone(),
                path: pool.path.clone(),
                address: address.clone(),
                servers: pool.servers,
                wait: pool.wait,
            }));
        }
    }
    drains.sort();
    (drains, problems)
}

/// Sites of a proxy whose pools are not known, because they take facts of it.
fn unknown<'a>(config: &'a Config, proxy: &'a HostName, waiting: &'a [Span]) -> impl Iterator<Item = Problem> + 'a {
    let of_proxy = config.stacks.values().filter(|stack| stack.hosts.contains(proxy));
    let sites = of_proxy.flat_map(|stack| {
        let drains = stack.resources.iter().filter(|(spec, _)| spec.drains());
        drains.filter(|(_, span)| waiting.contains(span) || waiting.contains(&stack.span)).map(|(_, span)| span)
    });
    sites.map(move |span| {
        let what = format!("its servers are not taken out of its pools on {proxy}: this site takes facts of that host");
        Problem::warning(what).at(span, "here").hint(format!("choose {proxy} as well: then it is asked for them"))
    })
}

/// Whether a plan changes a file.
pub fn is_written(plan: &HostPlan, path: &Utf8Path) -> bool {
    let changes = plan.carried_out().flat_map(|transaction| &transaction.changes);
    changes.flat_map(|change| &change.paths).any(|change| change.path == path)
}

/// The files that change on each host.
pub fn rewritten(ready: &BTreeMap<HostName, Ready>) -> BTreeSet<(HostName, Utf8PathBuf)> {
    let paths = |plan: &HostPlan| -> Vec<Utf8PathBuf> {
        let changes = plan.carried_out().flat_map(|transaction| &transaction.changes);
        changes.flat_map(|change| &change.paths).map(|path| path.path.clone()).collect()
    };
    let of = |(host, ready): (&HostName, &Ready)| {
        let host = host.clone();
        paths(&ready.plan).into_iter().map(move |path| (host.clone(), path)).collect::<Vec<_>>()
    };
    ready.iter().flat_map(of).collect()
}
