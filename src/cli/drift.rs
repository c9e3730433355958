//! `reconcile drift`: what differs on the hosts from what was last written there.

use std::sync::Arc;

use crate::base::error::Result;
use crate::cli::args::Drift;
use crate::cli::page::{BOLD, DIM, Page, count};
use crate::cli::plan::{self, Planning};
use crate::cli::plan_text::{Layout, change_text, failures, notes};
use crate::cli::wire::Bounds;
use crate::cli::{Call, wire, words};
use crate::engine::Planned;
use crate::plan::Cause;

/// Runs the command.
pub fn run(call: &Call, options: &Drift) -> Result<u8> {
    let mut planning = wire::block_on(Planning::begin(call, Bounds::default()))?;
    only_drift(&mut planning.planned);
    if call.common.json {
        let mut value = planning.json("drift");
        // Nothing can be applied by this digest: it is of no whole plan.
        value.as_object_mut().map(|object| object.remove("digest"));
        call.screen.show_json(&value);
    } else {
        planning.say_problems(call);
        let layout = Layout { width: call.screen.width, full: options.full };
        call.screen.show(&drift_text(&planning, layout));
    }
    let drifted = planning.planned.plan.hosts.iter().any(|host| !host.transactions.is_empty());
    Ok(plan::exit_code(&planning.planned, options.detailed_exitcode && drifted))
}

/// Leaves of a plan only what somebody, or a run that broke off, did on the hosts.
fn only_drift(planned: &mut Planned) {
    for host in planned.plan.hosts.iter_mut().map(Arc::make_mut) {
        host.hazards.clear();
        for transaction in &mut host.transactions {
            transaction.changes.retain(|change| matches!(change.cause, Cause::Drift | Cause::Both | Cause::Owed));
            let left = &transaction.changes;
            transaction.effects.retain(|effect| left.iter().any(|change| effect.causes.contains(&change.id)));
            transaction.checks.clear();
        }
        host.transactions.retain(|transaction| !transaction.changes.is_empty());
    }
}

fn drift_text(planning: &Planning, layout: Layout) -> Page {
    let mut page = Page::new();
    let (plan, planned) = (&planning.planned.plan, &planning.planned);
    let drifted: usize = plan.hosts.iter().flat_map(|host| &host.transactions).map(|each| each.changes.len()).sum();
    if drifted == 0 {
        let (hosts, elapsed) = (count(plan.hosts.len(), "host"), words::seconds(planned.elapsed));
        page.line(&format!("no drift: {hosts} as last written · {elapsed}"));
    } else {
        page.put(BOLD, &planning.origin.words()).put(DIM, " · what would bring the hosts back").end();
    }
    for host in &plan.hosts {
        for transaction in &host.transactions {
            page.end().put(BOLD, &format!("{} · {}", host.host, transaction.stack)).end();
            change_text(&mut page, transaction, layout);
        }
    }
    failures(&mut page, &planned.failures);
    notes(&mut page, planned);
    if drifted > 0 {
        let verb = if drifted == 1 { "differs" } else { "differ" };
        page.end().put(BOLD, &format!("{} {verb} from what was last written", count(drifted, "resource"))).end();
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn only_what_happened_on_hosts_is_drift() {
        let mut planned = fixtures::everything();
        only_drift(&mut planned);
        let changes = planned.plan.hosts.iter().flat_map(|host| host.changes());
        let names: Vec<&str> = changes.map(|change| change.id.name.as_str()).collect();
        assert_eq!(names, ["/etc/app/mode", "go-api", "worker", "stopped"]);
    }
}
