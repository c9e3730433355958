//! In which order hosts are changed: canaries first, then batches. A host that serves behind a proxy is out of it
//! meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::base::id::{HostName, ResourceId, StackName};
use crate::load::Rollout;

/// The way a run takes over its hosts.
#[derive(Debug, Clone, Default)]
pub struct Waves {
    /// How it was said to go; `None` for all at once, whatever happens on the others.
    pub rollout: Option<Rollout>,
    /// The hosts on which something is to be done, one wave after the other.
    pub each: Vec<Vec<HostName>>,
    /// What is taken out of service while it is changed.
    pub drains: Vec<Drain>,
}

/// A server that gets no new requests from a proxy while it is changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Drain {
    /// The host that serves.
    pub host: HostName,
    /// The host whose nginx passes requests on to it.
    pub proxy: HostName,
    /// The site there that has the pool.
    pub site: ResourceId,
    /// The stack of the site.
    pub stack: StackName,
    /// The pool.
    pub pool: String,
    /// The pool's name in nginx.
    pub upstream: String,
    /// The site's file.
    pub path: Utf8PathBuf,
    /// The server in it.
    pub address: String,
    /// How many servers the pool has.
    pub servers: usize,
    /// How long requests that have begun may take to end, in seconds.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub wait: Duration,
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

impl Waves {
    /// The way over some hosts. `rewritten` are the files that change on proxies.
    pub fn new(
        hosts: &[HostName],
        rollout: Option<Rollout>,
        drains: Vec<Drain>,
        rewritten: &BTreeSet<(HostName, Utf8PathBuf)>,
    ) -> Self {
        let each = waves(hosts, &rollout.clone().unwrap_or_default());
        let each = each.into_iter().flat_map(|wave| parted(wave, &drains, rewritten)).collect();
        Waves { rollout, each, drains }
    }

    /// What is taken out of service for some hosts.
    pub fn drains_of<'a>(&'a self, hosts: &'a [HostName]) -> impl Iterator<Item = &'a Drain> {
        self.drains.iter().filter(|drain| hosts.contains(&drain.host))
    }

    /// What of this makes a difference to what is done, for the plan's digest.
    pub(super) fn lines(&self) -> Vec<String> {
        let hosts = |wave: &Vec<HostName>| wave.iter().map(HostName::as_str).collect::<Vec<_>>().join(" ");
        let rollout = self.rollout.iter().filter(|_| !self.each.is_empty());
        let rollout = rollout.map(|rollout| format!("rollout {:?} {:?}", rollout.pause, rollout.on_failure));
        // One wave of all is what is done where nothing is said.
        let waves = self.each.iter().filter(|_| self.each.len() > 1).map(|wave| format!("wave {}", hosts(wave)));
        rollout.chain(waves).chain(self.drains.iter().map(|drain| format!("{drain:?}"))).collect()
    }
}

/// The hosts in waves: the canaries among them first, then the others in their order. No wave is empty, and none larger
/// than the rollout allows.
fn waves(hosts: &[HostName], rollout: &Rollout) -> Vec<Vec<HostName>> {
    let (canaries, others): (Vec<_>, Vec<_>) = hosts.iter().cloned().partition(|host| rollout.canary.contains(host));
    let most = rollout.max_unavailable.of(hosts.len());
    let batch = rollout.batch.of(hosts.len()).min(most);
    canaries.chunks(most.get()).chain(others.chunks(batch.get())).map(<[HostName]>::to_vec).collect()
}

/// A wave as several, where that must be: a proxy whose own file changes comes after the servers that are taken out of
/// it, and not all servers of a pool are out at the same time.
fn parted(wave: Vec<HostName>, drains: &[Drain], rewritten: &BTreeSet<(HostName, Utf8PathBuf)>) -> Vec<Vec<HostName>> {
    let inside: Vec<&Drain> = drains.iter().filter(|drain| wave.contains(&drain.host)).collect();
    let is_later = |host: &HostName| {
        inside.iter().any(|drain| drain.proxy == *host && rewritten.contains(&(host.clone(), drain.path.clone())))
    };
    let (mut later, mut first): (Vec<_>, Vec<_>) = wave.iter().cloned().partition(is_later);
    if later.is_empty() {
        let all = inside.iter().find(|drain| {
            let alike = |other: &&&Drain| (&other.proxy, &other.upstream) == (&drain.proxy, &drain.upstream);
            inside.iter().filter(alike).count() == drain.servers
        });
        let Some(all) = all else { return vec![wave] };
        let of_pool = |host: &HostName| {
            let same = |drain: &&Drain| (&drain.proxy, &drain.upstream) == (&all.proxy, &all.upstream);
            inside.iter().copied().filter(same).any(|drain| drain.host == *host)
        };
        let servers: Vec<HostName> = wave.iter().filter(|host| of_pool(host)).cloned().collect();
        later = servers[servers.len() / 2..].to_vec();
        first.retain(|host| !later.contains(host));
    } else if first.is_empty() {
        // Each is a proxy of others: one at a time.
        first = vec![later.remove(0)];
    }
    if first.is_empty() || later.is_empty() {
        return vec![wave];
    }
    [first, later].into_iter().flat_map(|wave| parted(wave, drains, rewritten)).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::load::{OnFailure, Size};

    fn host(number: usize) -> HostName {
        HostName::new(format!("web-{number:02}")).unwrap()
    }

    fn size() -> impl Strategy<Value = Size> {
        let number = (1..40_usize).prop_map(|number| Size::Number(NonZeroUsize::new(number).unwrap()));
        prop_oneof![number, (1..=100_u8).prop_map(Size::Percent)]
    }

    proptest! {
        #[test]
        fn every_host_is_in_one_wave_and_no_wave_is_too_large(
            number in 0..40_usize,
            canary in proptest::collection::btree_set(0..50_usize, 0..5),
            batch in size(),
            max_unavailable in size(),
        ) {
            let hosts: Vec<HostName> = (0..number).map(host).collect();
            let canary: Vec<HostName> = canary.into_iter().map(host).collect();
            let rollout = Rollout { canary: canary.clone(), batch, max_unavailable, ..Rollout::default() };
            let waves = waves(&hosts, &rollout);
            let flat: Vec<&HostName> = waves.iter().flatten().collect();
            prop_assert_eq!(flat.len(), hosts.len());
            prop_assert_eq!(flat.iter().copied().collect::<BTreeSet<_>>(), hosts.iter().collect::<BTreeSet<_>>());
            let there = canary.iter().filter(|host| hosts.contains(host)).count();
            prop_assert!(flat.iter().take(there).all(|host| canary.contains(host)), "canaries first: {:?}", waves);
            for wave in &waves {
                let canaries = wave.iter().filter(|host| canary.contains(host)).count();
                prop_assert!(canaries == 0 || canaries == wave.len(), "canaries go alone: {:?}", waves);
                prop_assert!(!wave.is_empty() && wave.len() <= max_unavailable.of(number).get());
                prop_assert!(canaries > 0 || wave.len() <= batch.of(number).get());
            }
            let least = usize::from(there > 0) + usize::from(number > there);
            prop_assert!(waves.len() >= least);
        }
    }

    #[test]
    fn shares_are_rounded_down_to_one_host_at_least() {
        let share = |share: u8, of: usize| Size::Percent(share).of(of).get();
        assert_eq!([share(25, 10), share(25, 3), share(100, 7), share(1, 0)], [2, 1, 7, 1]);
        for wrong in ["0", "0%", "101%", "", "%", "-1", "2.5"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_anything_said_all_hosts_are_one_wave() {
        let hosts: Vec<HostName> = (0..5).map(host).collect();
        assert_eq!(waves(&hosts, &Rollout::default()), vec![hosts]);
    }

    /// Everybody serves behind everybody else's nginx, or behind one.
    fn pool(servers: &[usize], proxies: &[usize]) -> Vec<Drain> {
        let drain = |server: usize, proxy: usize| Drain {
            host: host(server),
            proxy: host(proxy),
            site: "site:x".parse().unwrap(),
            stack: StackName::new("lb").unwrap(),
            pool: "api".into(),
            upstream: "api_x".into(),
            path: "/etc/nginx/sites-available/x.conf".into(),
            address: format!("10.0.0.{server}:80"),
            servers: servers.len(),
            wait: Duration::ZERO,
        };
        let pairs = servers.iter().flat_map(|server| proxies.iter().map(move |proxy| (*server, *proxy)));
        pairs.filter(|(server, proxy)| server != proxy).map(|(server, proxy)| drain(server, proxy)).collect()
    }

    fn shown(waves: Waves) -> Vec<Vec<usize>> {
        let number = |host: HostName| host.as_str()[4..].parse().unwrap();
        waves.each.into_iter().map(|wave| wave.into_iter().map(number).collect()).collect()
    }

    #[test]
    fn a_pool_is_never_emptied_and_its_proxy_comes_last() {
        let hosts: Vec<HostName> = (0..4).map(host).collect();
        let rewritten = |of: &[usize]| {
            of.iter().map(|number| (host(*number), "/etc/nginx/sites-available/x.conf".into())).collect()
        };
        let none = BTreeSet::new();
        assert_eq!(shown(Waves::new(&hosts, None, pool(&[1, 2, 3], &[0]), &none)), [vec![0, 1], vec![2, 3]]);
        let both = shown(Waves::new(&hosts, None, pool(&[1, 2, 3], &[0]), &rewritten(&[0])));
        assert_eq!(both, [vec![1], vec![2, 3], vec![0]]);
        let mesh = shown(Waves::new(&hosts, None, pool(&[0, 1, 2, 3], &[0, 1, 2, 3]), &rewritten(&[0, 1, 2, 3])));
        assert_eq!(mesh, [vec![0], vec![1], vec![2], vec![3]]);
        // The only server of its pool is not taken out, and nothing is to be said of it here.
        assert_eq!(shown(Waves::new(&hosts, None, Vec::new(), &none)), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn g01_what_changes_the_way_is_a_part_of_the_digest() {
        let hosts: Vec<HostName> = (0..4).map(host).collect();
        let none = BTreeSet::new();
        let lines = |rollout: Option<Rollout>, drains: Vec<Drain>| Waves::new(&hosts, rollout, drains, &none).lines();
        assert!(lines(None, Vec::new()).is_empty());
        let usual = Rollout::default();
        let threshold = NonZeroUsize::MIN;
        let other = [
            lines(Some(usual.clone()), Vec::new()),
            lines(Some(Rollout { batch: Size::Percent(50), ..usual.clone() }), Vec::new()),
            lines(Some(Rollout { canary: vec![host(2)], ..usual.clone() }), Vec::new()),
            lines(Some(Rollout { pause: Duration::from_secs(1), ..usual.clone() }), Vec::new()),
            lines(Some(Rollout { on_failure: OnFailure::Continue, ..usual.clone() }), Vec::new()),
            lines(Some(Rollout { on_failure: OnFailure::Revert { threshold }, ..usual.clone() }), Vec::new()),
            lines(Some(usual), pool(&[1, 2], &[0])),
        ];
        assert_eq!(other.iter().collect::<BTreeSet<_>>().len(), other.len(), "{other:#?}");
    }
}
