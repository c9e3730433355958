//! What goes because nobody wants it any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{Kind, ResourceId, StackName};
use crate::host::observation::{PathSeen, Seen, Thing};
use crate::ledger::Claim;
use crate::plan::after::{Needs, reaches};
use crate::plan::compare::{left_there, removals};
use crate::plan::host::Planner;
use crate::plan::{Action, Cause, Change, Refusal, rank};

impl Planner<'_> {
    /// What we own and nobody wants any more, in the reverse of the order in which it would be made.
    pub(super) fn removals(&self) -> Vec<Change> {
        let selects = |stack: &StackName| self.policy.selects(stack);
        let mut unwanted = self.ownership.unwanted(self.desired, &selects);
        unwanted.sort_by_key(|(_, id, _)| std::cmp::Reverse((rank(id.kind), id.name.clone())));
        let mut removals: Vec<Change> =
            unwanted.iter().map(|(stack, id, claim)| self.removal(stack, id, claim)).collect();
        // A directory made for several of them goes with the last one, and is said once.
        let mut said = BTreeSet::new();
        for change in removals.iter_mut().rev() {
            change.paths.retain(|path| !is_directory(&path.before) || said.insert(path.path.clone()));
        }
        removals.extend(unwanted.iter().flat_map(|(stack, id, _)| self.forgotten(stack, id)));
        removals
    }

    /// The claims on a resource that goes in the ledgers of stacks that it has left: they go too, whichever stacks are
    /// selected, or else the next plan would find them.
    fn forgotten(&self, stack: &StackName, id: &ResourceId) -> impl Iterator<Item = Change> {
        let detail = format!("no more than its entry here: it has moved to {stack}");
        self.ownership.former(id).map(move |former| Change {
            id: id.clone(),
            stack: former.clone(),
            origin: None,
            action: Action::Remove,
            cause: Cause::Gone,
            paths: Vec::new(),
            details: vec![detail.clone()],
            refused: None,
        })
    }

    /// What goes is forgotten first by the stacks that it has left, if what is said allows: were one of them held, or
    /// failed, its claim would be the only one that is left, and count again.
    pub(super) fn forget_first(&self, by_stack: &BTreeMap<StackName, Vec<Change>>, needs: &mut Needs) {
        for change in by_stack.values().flatten().filter(|change| change.action == Action::Remove) {
            let former: BTreeSet<&StackName> = self.ownership.former(&change.id).collect();
            if former.contains(&change.stack) {
                continue;
            }
            for stack in former {
                if !reaches(needs, stack, &change.stack) {
                    needs.entry(change.stack.clone()).or_default().insert(stack.clone());
                }
            }
        }
    }

    fn removal(&self, stack: &StackName, id: &ResourceId, claim: &Claim) -> Change {
        let mut details = left_there(claim, self.seen, &self.wanted);
        if id.kind == Kind::Packages {
            details.push("stays installed, no longer ours".into());
        }
        Change {
            id: id.clone(),
            stack: stack.clone(),
            origin: None,
            action: Action::Remove,
            cause: Cause::Gone,
            paths: removals(claim, self.seen, &self.wanted),
            details,
            refused: self.unseen_containers(claim),
        }
    }

    /// A Compose project cannot go while nobody knows which of its containers there are: they would stay for good.
    fn unseen_containers(&self, claim: &Claim) -> Option<Refusal> {
        let hidden = match &self.seen.containers {
            Some(Err(why)) if self.seen.tools.contains("docker") && !self.policy.offline => why,
            _ => return None,
        };
        claim.project.as_ref().map(|_| Refusal {
            why: format!("its containers cannot be removed: {hidden}"),
            hint: "see that `docker ps` works there; the files stay until then".into(),
        })
    }
}

fn is_directory(seen: &Seen<PathSeen>) -> bool {
    matches!(seen, Seen::Present(seen) if seen.thing == Thing::Directory)
}
