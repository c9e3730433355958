//! A plan, and what it says will happen.

use std::collections::BTreeSet;

use serde_json::Value;

/// A plan as JSON.
pub struct Plan(pub Value);

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.0["summary"]["empty"] == true
    }

    pub fn digest(&self) -> String {
        self.0["digest"].as_str().expect("a digest").into()
    }

    /// What is said of each stack.
    pub fn stacks(&self) -> impl Iterator<Item = &Value> {
        let hosts = self.0["hosts"].as_array().into_iter().flatten();
        hosts.flat_map(|host| host["stacks"].as_array().into_iter().flatten())
    }

    /// What nobody does by the way, so that nothing is done on its host.
    pub fn held(&self) -> Vec<String> {
        let hosts = self.0["hosts"].as_array().into_iter().flatten();
        let hazards = hosts.flat_map(|host| host["hazards"].as_array().into_iter().flatten());
        let held = hazards.filter(|hazard| hazard["unless"] == "overridden");
        held.map(|hazard| hazard["what"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// The names of the stacks that have changes.
    pub fn stack_names(&self) -> Vec<String> {
        self.stacks().map(|stack| stack["stack"].as_str().unwrap_or_default().to_string()).collect()
    }

    pub fn changes(&self) -> impl Iterator<Item = &Value> {
        self.stacks().flat_map(|stack| stack["changes"].as_array().into_iter().flatten())
    }

    pub fn change(&self, id: &str) -> &Value {
        self.changes().find(|change| change["id"] == id).unwrap_or(&Value::Null)
    }

    /// Why a resource is refused, or nothing.
    pub fn refusal(&self, id: &str) -> String {
        self.change(id)["refused"]["why"].as_str().unwrap_or_default().into()
    }

    /// Every effect on one unit as `restart a.service`, every one on the containers of a service as `container recreate
    /// web`, and `daemon-reload`.
    pub fn effects(&self) -> BTreeSet<String> {
        let effects = self.stacks().flat_map(|stack| stack["effects"].as_array().into_iter().flatten());
        let mut all = BTreeSet::new();
        for effect in effects {
            let deed = effect["deed"].as_str().unwrap_or_default();
            if !effect["project"].is_null() {
                all.extend(on_containers(deed, effect));
                continue;
            }
            let units: Vec<&Value> = match effect["unit"] {
                Value::Null => effect["units"].as_array().into_iter().flatten().collect(),
                ref unit => vec![unit],
            };
            if units.is_empty() {
                all.insert(deed.to_string());
            }
            all.extend(units.iter().map(|unit| format!("{deed} {}", unit.as_str().unwrap_or_default())));
        }
        all
    }

    /// The paths that change.
    pub fn paths(&self) -> BTreeSet<String> {
        let paths = self.changes().flat_map(|change| change["paths"].as_array().into_iter().flatten());
        paths.map(|path| path["path"].as_str().unwrap_or_default().to_string()).collect()
    }
}

/// What an effect on a Compose project does to the containers of its services.
fn on_containers(deed: &str, effect: &Value) -> Vec<String> {
    let verbs = match deed {
        "compose-up" => &["create", "recreate", "start", "unpause", "remove"][..],
        "compose-down" => &["services"],
        "compose-stop" => return vec!["container stop all".into()],
        "container-restart" => &["services"],
        _ => &["service"],
    };
    let mut all = Vec::new();
    for field in verbs {
        let verb = match deed {
            "compose-up" => field,
            "compose-down" => "remove",
            "container-restart" => "restart",
            _ => "signal",
        };
        let list = effect[*field].as_array().into_iter().flatten().chain(Some(&effect[*field]));
        all.extend(list.filter_map(Value::as_str).map(|service| format!("container {verb} {service}")));
    }
    all
}
