//! A plan as JSON, for programs. The form has a version: what a later one adds, older readers may pass over.

use serde_json::{Map, Value, json};

use crate::base::diagnostic::Span;
use crate::base::secret::MASK;
use crate::cli::content::{self, Difference};
use crate::cli::failure::{error_value, problems_value};
use crate::cli::origin::Origin;
use crate::cli::words::{self, Totals};
use crate::engine::Planned;
use crate::host::observation::{PathSeen, Seen, Thing};
use crate::plan::{Change, HostPlan, PathChange, Transaction};
use crate::resource::state::PathState;

/// A plan as JSON. `command` is the word it was asked for with.
pub fn plan_json(command: &str, origin: &Origin, planned: &Planned) -> Value {
    json!({
        "version": 1,
        "command": command,
        "source": origin,
        "hosts": planned.plan.hosts.iter().map(|each| host(each)).collect::<Vec<_>>(),
        "failures": failures(planned),
        "rollout": planned.plan.waves.rollout,
        "waves": planned.plan.waves.each,
        "drains": planned.plan.waves.drains,
        "problems": problems_value(&planned.problems),
        "summary": summary(planned),
        "digest": planned.plan.digest(),
    })
}

/// The hosts that could not be planned.
pub fn failures(planned: &Planned) -> Vec<Value> {
    let each = planned.failures.iter();
    each.map(|(host, error)| json!({ "host": host, "error": error_value(error) })).collect()
}

fn summary(planned: &Planned) -> Value {
    json!({
        "hosts": planned.plan.hosts.len() + planned.failures.len(),
        "resources": planned.resources,
        "unchanged": planned.plan.hosts.iter().map(|host| host.unchanged).sum::<usize>(),
        "changes": Totals::of(&planned.plan),
        "empty": words::is_nothing(planned),
        "seconds": planned.elapsed.as_secs_f64(),
    })
}

fn host(host: &HostPlan) -> Value {
    json!({
        "host": host.host,
        "offline": host.offline,
        "unchanged": host.unchanged,
        "unfinished": host.unfinished,
        "notes": host.notes,
        "transaction": host.extent,
        "hazards": host.hazards,
        "stacks": host.transactions.iter().map(transaction).collect::<Vec<_>>(),
    })
}

fn transaction(transaction: &Transaction) -> Value {
    let refused = transaction.refusal().map(|(change, refusal)| json!({ "id": change.id, "refusal": refusal }));
    let checks = transaction.checks.iter();
    json!({
        "stack": transaction.stack,
        "needs": transaction.needs,
        "refused": refused,
        "held": transaction.held,
        "changes": transaction.changes.iter().map(|each| change(transaction, each)).collect::<Vec<_>>(),
        "effects": transaction.effects,
        "checks": checks.map(|(id, check)| json!({ "id": id, "check": words::check(check) })).collect::<Vec<_>>(),
    })
}

fn change(transaction: &Transaction, change: &Change) -> Value {
    json!({
        "id": change.id,
        "stack": change.stack,
        "origin": change.origin.as_ref().map(place),
        "action": change.action,
        "cause": change.cause,
        "details": change.details,
        "paths": change.paths.iter().map(path).collect::<Vec<_>>(),
        "effects": words::effects_of(transaction, &change.id).collect::<Vec<_>>(),
        "refused": change.refused,
    })
}

/// A place in a file of the repository.
pub fn place(span: &Span) -> Value {
    let (line, column) = span.line_column();
    json!({ "file": span.path(), "line": line, "column": column })
}

/// What happens at a path.
pub fn path(change: &PathChange) -> Value {
    let difference = content::difference(change);
    // The digest of a short secret gives it away to whoever has time to guess.
    let hidden = matches!(difference, Difference::Secret | Difference::Private)
        || content::content_after(change).is_some_and(|content| content.secret);
    let mut value = Map::new();
    value.insert("path".into(), json!(change.path));
    value.insert("before".into(), before(&change.before, hidden));
    value.insert("after".into(), change.after.as_ref().map_or(Value::Null, after));
    value.insert("secret".into(), json!(hidden));
    if let Difference::Text { before, after } = difference {
        let lines = content::unified(before, after);
        let lines: Vec<String> = lines.iter().map(|(tag, line)| format!("{}{line}", tag.sign())).collect();
        value.insert("diff".into(), json!(lines.join("\n")));
    }
    Value::Object(value)
}

fn before(seen: &Seen<PathSeen>, hidden: bool) -> Value {
    match seen {
        Seen::Absent => Value::Null,
        Seen::Unknown(why) => json!({ "kind": "unknown", "why": why }),
        Seen::Present(seen) => {
            let mut value = json!({
                "kind": content::thing_seen(seen),
                "mode": mode(seen.mode),
                "owner": content::owner_words(&seen.owner),
            });
            match &seen.thing {
                Thing::File(_) if hidden => value["digest"] = json!(MASK),
                Thing::File(digest) => value["digest"] = json!(digest),
                Thing::Link(target) => value["target"] = json!(target),
                Thing::Directory | Thing::Other => {}
            }
            value
        }
    }
}

fn after(state: &PathState) -> Value {
    let mut value = json!({ "kind": content::thing(state) });
    match state {
        PathState::File { content, mode: bits, owner } => {
            value["mode"] = json!(mode(*bits));
            value["owner"] = json!(content::owner_words(owner));
            value["digest"] = if content.secret { json!(MASK) } else { json!(content.digest) };
        }
        PathState::Directory { mode: bits, owner } => {
            value["mode"] = json!(mode(*bits));
            value["owner"] = json!(content::owner_words(owner));
        }
        PathState::Link { target } => value["target"] = json!(target),
    }
    value
}

fn mode(bits: u32) -> String {
    format!("{bits:04o}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    fn shown(planned: &Planned) -> String {
        serde_json::to_string_pretty(&plan_json("plan", &fixtures::origin(), planned)).unwrap()
    }

    #[test]
    fn a_plan_with_something_of_everything() {
        insta::assert_snapshot!(shown(&fixtures::everything()));
    }

    #[test]
    fn g14_a_plan_is_not_empty_while_hosts_are_unreachable() {
        let mut planned = fixtures::planned(vec![fixtures::host_plan("web-1", Vec::new())]);
        let empty = |planned: &Planned| plan_json("plan", &fixtures::origin(), planned)["summary"]["empty"] == true;
        assert!(empty(&planned));
        planned.failures = fixtures::everything().failures;
        assert!(!empty(&planned));
    }

    #[test]
    fn g11_a_secret_and_its_digest_are_in_no_json() {
        let text = shown(&fixtures::everything());
        let digest = crate::base::digest::Digest::of(fixtures::HUSH.as_bytes()).to_string();
        assert!(!text.contains(fixtures::HUSH) && !text.contains(&digest));
    }
}
