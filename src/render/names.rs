//! What names mean in the templates of one stack on one host.
//!
//! From the bottom to the top: the stack's `vars`, its values, the host's variables, the stack's variables and values
//! for this host. The more one says about a single machine, the more it weighs. `host`, `hosts` and `stack` cannot be
//! taken by any of them.

use serde_json::{Map, Value, json};

use crate::base::diagnostic::{Problem, Problems};
use crate::base::secret;
use crate::base::template::Scope;
use crate::load::{Config, Filled, Host, Stack, Vars};

/// The names of one stack on one host.
pub(super) enum Names {
    /// All are known.
    Known(Box<Scope>),
    /// Some take facts that are not known.
    Waiting,
    /// Some cannot be filled in, which has been reported.
    Failed,
}

/// The names of the repository itself: the same for all stacks of a host.
pub(super) fn of_repository(host: &Host) -> Map<String, Value> {
    let mut names = Map::new();
    names.insert("host".into(), host.describe());
    names
}

/// The names of `stack` on `host`.
pub(super) fn of_stack(
    config: &Config,
    stack: &Stack,
    host: &Host,
    repository: &Map<String, Value>,
    facts: Option<&Value>,
    problems: &mut Problems,
) -> Names {
    let mut vars = stack.vars.clone();
    vars.lay_over(&Vars::from(host.vars.clone()));
    if let Some(own) = stack.overrides.get(&host.name) {
        vars.lay_over(own);
    }
    let mut names = repository.clone();
    names.insert("stack".into(), json!({ "name": stack.name }));
    let mut secrets = stack.secrets.clone();
    secret::lay_over(&mut secrets, stack.host_secrets.get(&host.name).cloned().unwrap_or_default());
    let mut scope = Scope::new(Map::new(), secrets, facts.cloned()).with_hosts(config.described.clone());
    let failed = vars.fill(&mut names, &mut |text, names| {
        scope.set_names(names.clone());
        match config.templates.render_text(text, &scope) {
            Ok(rendered) if rendered.needs_facts => Filled::Waits,
            Ok(rendered) if rendered.secret => {
                let problem = Problem::error("a secret cannot stand in a variable");
                let hint = "write `{{ secret.NAME }}` where it goes; variables can be shown, secrets cannot";
                problems.push(problem.at(&text.span, "this has a secret in it").hint(hint));
                Filled::Failed
            }
            Ok(rendered) => Filled::Text(rendered.text),
            Err(problem) => {
                problems.push(*problem);
                Filled::Failed
            }
        }
    });
    scope.set_names(names);
    match failed {
        failed if failed.is_empty() => Names::Known(Box::new(scope)),
        failed if failed.contains(&Filled::Failed) => Names::Failed,
        _ => Names::Waiting,
    }
}
