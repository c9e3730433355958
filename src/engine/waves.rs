//! In which order hosts are changed: canaries first, then batches.

use crate::base::id::HostName;
use crate::engine::report::Report;
use crate::load::Rollout;

/// The hosts in waves: the canaries among them first, then the others in their order. No wave is empty, and none larger
/// than the rollout allows.
pub fn waves(hosts: &[HostName], rollout: &Rollout) -> Vec<Vec<HostName>> {
    let (canaries, others): (Vec<_>, Vec<_>) = hosts.iter().cloned().partition(|host| rollout.canary.contains(host));
    let most = rollout.max_unavailable.of(hosts.len());
    let batch = rollout.batch.of(hosts.len()).min(most);
    canaries.chunks(most.get()).chain(others.chunks(batch.get())).map(<[HostName]>::to_vec).collect()
}

/// Why no further wave begins, and what to do about it, once too many hosts have failed.
pub(super) fn stop(report: &Report, rollout: &Rollout, run: &str) -> Option<(String, String)> {
    let failed: Vec<&str> =
        report.hosts.iter().filter(|host| host.has_failed()).map(|host| host.host.as_str()).collect();
    let threshold = rollout.threshold.filter(|threshold| failed.len() >= threshold.get())?;
    let what = format!(
        "not begun: the rollout stops once {threshold} failed, went back or could not be reached, and that is so of {}",
        failed.join(", ")
    );
    let hint = format!("see to that and apply again; `reconcile rollback {run}` takes back what this run did");
    Some((what, hint))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::load::Size;

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
}
