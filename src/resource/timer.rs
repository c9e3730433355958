//! `timer`: a systemd timer, with the service it starts.

use minijinja::context;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::Kind;
use crate::resource::calendar::is_calendar;
use crate::resource::lowering::Lowering;
use crate::resource::service::{Defaults, Service};
use crate::resource::state::{Content, UnitState};
use crate::resource::{Action, Reaction, Resource, health, unit, value};

/// What a property of the language becomes in the section `[Timer]`.
const SETTINGS: [(&str, &str); 6] = [
    ("on-calendar", "OnCalendar"),
    ("on-boot", "OnBootSec"),
    ("on-unit-active", "OnUnitActiveSec"),
    ("randomized-delay", "RandomizedDelaySec"),
    ("accuracy", "AccuracySec"),
    ("persistent", "Persistent"),
];

/// What `on-calendar` is.
const CALENDAR: &str = "a time such as `daily`, `Mon..Fri 08:30` or `*-*-01 04:00` (see systemd.time(7))";

/// A timer as a stack describes it.
#[derive(Debug, Clone)]
pub struct Timer {
    name: Text,
    settings: Vec<(&'static str, Text)>,
    service: Service,
    unit: Option<Text>,
    enabled: bool,
    running: bool,
    origin: Span,
}

impl Timer {
    /// Reads `timer "backup" { on-calendar "daily"; exec "/usr/local/bin/backup" }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let mut settings = Vec::new();
        for (property, directive) in SETTINGS {
            if property == "persistent" {
                let word = reader.flag(property).map(|yes| yes.to_string());
                settings.extend(word.map(|raw| (directive, Text { raw, span: reader.span() })));
            } else {
                settings.extend(reader.values(property).into_iter().map(|text| (directive, text)));
            }
        }
        let timer = Timer {
            service: Service::decode(&mut reader),
            unit: reader.value("unit"),
            enabled: reader.flag("enabled").unwrap_or(true),
            running: reader.flag("running").unwrap_or(true),
            origin: reader.span(),
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
            settings,
        };
        let sensible = timer.sensible(&reader);
        reader.finish();
        (name.is_some() && sensible).then_some(timer)
    }

    fn sensible(&self, reader: &Reader<'_>) -> bool {
        // Text in braces is only known on a host.
        let calendars = self.settings.iter().filter(|(key, text)| *key == "OnCalendar" && !text.raw.contains('{'));
        let odd: Vec<_> = calendars.filter(|(_, text)| !is_calendar(&text.raw)).collect();
        for (_, text) in &odd {
            let problem = Problem::error(format!("`{}` is not {CALENDAR}", text.raw.escape_debug()));
            reader.report(problem.at(&text.span, "here"));
        }
        if !odd.is_empty() {
            return false;
        }
        let triggers = ["OnCalendar", "OnBootSec", "OnUnitActiveSec"];
        if !self.settings.iter().any(|(directive, _)| triggers.contains(directive)) {
            let problem = Problem::error("this timer never elapses").at(&self.origin, "this timer");
            reader.report(problem.hint("add `on-calendar \"daily\"`, `on-boot \"5min\"` or `on-unit-active \"1h\"`"));
            return false;
        }
        let problem = match (&self.unit, self.service.span()) {
            (Some(unit), Some(setting)) => {
                Problem::error("a timer either names a unit or describes a service, not both")
                    .at(setting, "a setting of a service")
                    .at(&unit.span, "and a unit")
            }
            (None, _) if !self.service.has_exec => Problem::error("this timer starts nothing")
                .at(&self.origin, "this timer")
                .hint("add `exec \"/path/to/program\"` or `unit=\"other.service\"`"),
            _ => return true,
        };
        reader.report(problem);
        false
    }

    /// The timer on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let name = on.parsed(&self.name, "the name of a timer", |word| {
            let word = word.strip_suffix(".timer").unwrap_or(word);
            value::full_unit_name(&format!("{word}.timer")).map(|_| word.to_string())
        })?;
        let mut resource = Resource::empty(Kind::Timer, &name, on, &self.origin);
        let timer = format!("{name}.timer");
        let target = match &self.unit {
            Some(unit) => Some(value::unit_name(on, unit)?),
            None => None,
        };
        add(&mut resource, &timer, self.content(on, &name, target.as_deref())?);
        let state = UnitState { enabled: Some(self.enabled), active: Some(self.running) };
        resource.state.units.insert(timer.clone(), state);
        if target.is_none() {
            let service = format!("{name}.service");
            let defaults = Defaults { description: &name, kind: Some("oneshot"), restart: None, wanted_by: &[] };
            add(&mut resource, &service, self.service.lower(on, &self.origin, &defaults)?);
            // Whether the job runs just now is the timer's business.
            resource.state.units.insert(service, UnitState::default());
        }
        if self.running {
            resource.checks.push(health::active(timer, &health::Terms::default()));
        }
        Some(resource)
    }

    fn content(&self, on: &Lowering<'_>, name: &str, target: Option<&str>) -> Option<Content> {
        let lines: Vec<_> = self.settings.iter().map(|(key, text)| Some((*key, setting(on, key, text)?))).collect();
        let mut lines: Vec<_> = lines.into_iter().collect::<Option<_>>()?;
        lines.extend(target.map(|target| ("Unit", target.to_string())));
        let lines: Vec<_> = lines.into_iter().map(|(key, value)| context! { key, value }).collect();
        let context = context! { managed => on.banner(), description => format!("When to run {name}"), timer => lines };
        on.template("systemd/timer.j2", context, false, &self.origin)
    }
}

/// When it elapses must be said in systemd's way: a timer that never elapses is noticed by nobody.
fn setting(on: &Lowering<'_>, key: &str, text: &Text) -> Option<String> {
    if key == "OnCalendar" {
        on.parsed(text, CALENDAR, |word| is_calendar(word).then_some(()))?;
    }
    value::word(on, text)
}

fn add(resource: &mut Resource, unit: &str, content: Content) {
    let path: camino::Utf8PathBuf = format!("/etc/systemd/system/{unit}").into();
    resource.state.paths.insert(path.clone(), unit::file(content));
    resource.reactions.push(Reaction { paths: vec![path], action: Action::ByDirective(unit.into()) });
}
