//! The settings of a systemd service, as `unit` and `timer` share them, and the unit file made from them.

use minijinja::Value;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::template::{Rendered, quote_systemd};
use crate::resource::lowering::Lowering;
use crate::resource::state::Content;
use crate::resource::{service_value, value};

/// A section of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Unit,
    Service,
}

/// What a property of the language is called, and which directive of systemd it becomes. In the order of the file.
const SETTINGS: [(&str, Section, &str); 43] = [
    ("description", Section::Unit, "Description"),
    ("documentation", Section::Unit, "Documentation"),
    ("after", Section::Unit, "After"),
    ("before", Section::Unit, "Before"),
    ("wants", Section::Unit, "Wants"),
    ("requires", Section::Unit, "Requires"),
    ("binds-to", Section::Unit, "BindsTo"),
    ("part-of", Section::Unit, "PartOf"),
    ("start-limit-burst", Section::Unit, "StartLimitBurst"),
    ("start-limit-interval", Section::Unit, "StartLimitIntervalSec"),
    ("type", Section::Service, "Type"),
    ("user", Section::Service, "User"),
    ("group", Section::Service, "Group"),
    ("workdir", Section::Service, "WorkingDirectory"),
    ("runtime-directory", Section::Service, "RuntimeDirectory"),
    ("state-directory", Section::Service, "StateDirectory"),
    ("env-file", Section::Service, "EnvironmentFile"),
    ("exec-pre", Section::Service, "ExecStartPre"),
    ("exec", Section::Service, "ExecStart"),
    ("exec-post", Section::Service, "ExecStartPost"),
    ("exec-reload", Section::Service, "ExecReload"),
    ("exec-stop", Section::Service, "ExecStop"),
    ("restart", Section::Service, "Restart"),
    ("restart-sec", Section::Service, "RestartSec"),
    ("restart-steps", Section::Service, "RestartSteps"),
    ("restart-max-delay", Section::Service, "RestartMaxDelaySec"),
    ("timeout-start", Section::Service, "TimeoutStartSec"),
    ("timeout-stop", Section::Service, "TimeoutStopSec"),
    ("kill-signal", Section::Service, "KillSignal"),
    ("kill-mode", Section::Service, "KillMode"),
    ("watchdog", Section::Service, "WatchdogSec"),
    ("oom-policy", Section::Service, "OOMPolicy"),
    ("oom-score-adjust", Section::Service, "OOMScoreAdjust"),
    ("limit-nofile", Section::Service, "LimitNOFILE"),
    ("memory-min", Section::Service, "MemoryMin"),
    ("memory-low", Section::Service, "MemoryLow"),
    ("memory-high", Section::Service, "MemoryHigh"),
    ("memory-max", Section::Service, "MemoryMax"),
    ("memory-swap-max", Section::Service, "MemorySwapMax"),
    ("cpu-weight", Section::Service, "CPUWeight"),
    ("cpu-quota", Section::Service, "CPUQuota"),
    ("tasks-max", Section::Service, "TasksMax"),
    ("no-new-privileges", Section::Service, "NoNewPrivileges"),
];

/// Directives that take several values on one line, or several lines; all others take exactly one.
const SEVERAL: [&str; 11] = [
    "Documentation",
    "After",
    "Before",
    "Wants",
    "Requires",
    "BindsTo",
    "PartOf",
    "EnvironmentFile",
    "ExecStartPre",
    "ExecStartPost",
    "ExecStop",
];

/// The settings of a service as a stack describes them.
#[derive(Debug, Clone)]
pub struct Service {
    /// Several texts are a program and its arguments.
    settings: Vec<(Section, &'static str, Vec<Text>)>,
    env: Vec<(String, Text)>,
    directives: Vec<(String, Vec<(String, Text)>)>,
    pub(super) has_exec: bool,
}

/// What differs between the services of a `unit` and of a `timer`.
pub struct Defaults<'a> {
    /// `Description=`, where none is given.
    pub description: &'a str,
    /// `Type=`, where none is given.
    pub kind: Option<&'a str>,
    /// `Restart=`, where none is given.
    pub restart: Option<&'a str>,
    /// `WantedBy=`; empty for none.
    pub wanted_by: &'a [String],
}

/// A line of a unit file: directive and value.
type Line = (String, String);

impl Service {
    /// Reads the settings; what else there is to the node is the caller's to read.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        let mut settings = Vec::new();
        for (property, section, directive) in SETTINGS {
            let given = reader.values(property);
            if property == "exec" && given.len() > 1 {
                settings.push((section, directive, given));
                continue;
            }
            if given.len() > 1 && !SEVERAL.contains(&directive) {
                let problem = Problem::error(format!("`{property}` takes one value"));
                reader.report(problem.at(&given[1].span, "the second").at(&given[0].span, "the first"));
            }
            settings.extend(given.into_iter().map(|text| (section, directive, vec![text])));
        }
        let env = reader.children("env").into_iter().flat_map(environment).collect();
        let directives = reader.children("directive").into_iter().filter_map(directive).collect();
        let has_exec = settings.iter().any(|(_, directive, _)| *directive == "ExecStart");
        Service { settings, env, directives, has_exec }
    }

    /// Whether anything is set at all.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.env.is_empty() && self.directives.is_empty()
    }

    /// Where the first thing is set.
    pub fn span(&self) -> Option<&Span> {
        let settings = self.settings.iter().flat_map(|(_, _, texts)| texts);
        let env = self.env.iter().map(|(_, text)| text);
        let more = self.directives.iter().flat_map(|(_, lines)| lines.iter().map(|(_, text)| text));
        settings.chain(env).chain(more).map(|text| &text.span).next()
    }

    /// The unit file, written by the template `systemd/service.j2`.
    pub fn lower(&self, on: &Lowering<'_>, origin: &Span, defaults: &Defaults<'_>) -> Option<Content> {
        let mut secret = false;
        let mut fill = |text: &Text| {
            let Rendered { text, secret: tainted, .. } = value::line(on, text)?;
            secret |= tainted;
            Some(text)
        };
        let unit = self.section(on, Section::Unit, &mut fill);
        let service = self.section(on, Section::Service, &mut fill);
        let env: Option<Vec<Line>> = self.env.iter().map(|(name, text)| Some((name.clone(), fill(text)?))).collect();
        let more = self.more(&mut fill);
        let (mut unit, mut service, env, mut more) = (unit?, service?, env?, more?);
        default(&mut unit, "Description", Some(defaults.description));
        default(&mut service, "Restart", defaults.restart);
        if let Some(kind) = defaults.kind.filter(|_| !has(&service, "Type")) {
            service.insert(0, ("Type".into(), kind.into()));
        }
        take(&mut more, "Unit", &mut unit);
        take(&mut more, "Service", &mut service);
        let mut install: Vec<Line> = defaults.wanted_by.iter().map(|by| ("WantedBy".into(), by.clone())).collect();
        take(&mut more, "Install", &mut install);
        let more: Vec<Value> =
            more.into_iter().map(|(name, lines)| minijinja::context! { name, lines => values(&lines) }).collect();
        let env: Vec<Value> = env.iter().map(|(name, value)| minijinja::context! { name, value }).collect();
        let context = minijinja::context! {
            managed => on.banner(), unit => values(&unit), service => values(&service), install => values(&install), env, more,
        };
        on.template("systemd/service.j2", context, secret, origin)
    }

    fn section(
        &self,
        on: &Lowering<'_>,
        wanted: Section,
        fill: &mut impl FnMut(&Text) -> Option<String>,
    ) -> Option<Vec<Line>> {
        let here = self.settings.iter().filter(|(section, _, _)| *section == wanted);
        // Every value is filled in before giving up, so that all problems are reported at once.
        let lines: Vec<_> =
            here.map(|(_, directive, texts)| setting(on, directive, texts, &command(texts, fill)?)).collect();
        lines.into_iter().collect()
    }

    fn more(&self, fill: &mut impl FnMut(&Text) -> Option<String>) -> Option<Vec<(String, Vec<Line>)>> {
        let mut sections: Vec<(String, Vec<Line>)> = Vec::new();
        for (name, given) in &self.directives {
            let lines: Vec<_> = given.iter().map(|(key, text)| Some((key.clone(), fill(text)?))).collect();
            let lines = lines.into_iter().collect::<Option<Vec<_>>>()?;
            match sections.iter_mut().find(|(section, _)| section == name) {
                Some((_, known)) => known.extend(lines),
                None => sections.push((name.clone(), lines)),
            }
        }
        Some(sections)
    }
}

/// A line with a value that systemd will understand.
fn setting(on: &Lowering<'_>, directive: &str, texts: &[Text], value: &str) -> Option<Line> {
    let Some((what, meant)) = service_value::fault(directive, value) else {
        return Some((directive.to_string(), value.to_string()));
    };
    let problem = Problem::error(format!("`{}` is not what `{directive}` takes: {what}", value.escape_debug()));
    let problem = texts.iter().take(1).fold(problem, |problem, text| problem.at(&text.span, "here"));
    on.report(match meant {
        Some(meant) => problem.hint(meant),
        None => problem,
    });
    None
}

/// The value of a directive: one text as it is; of several each is one word of a command line, where neither `%` nor `$`
/// means anything.
fn command(texts: &[Text], fill: &mut impl FnMut(&Text) -> Option<String>) -> Option<String> {
    if let [one] = texts {
        return fill(one);
    }
    let words: Vec<Option<String>> =
        texts.iter().map(|text| quote_systemd(&fill(text)?.replace('$', "$$")).ok()).collect();
    Some(words.into_iter().collect::<Option<Vec<_>>>()?.join(" "))
}

/// Reads `env NAME="value" …`.
pub fn environment(mut reader: Reader<'_>) -> Vec<(String, Text)> {
    let pairs = reader.all_properties();
    for (name, text) in &pairs {
        if !is_variable(name) {
            let problem = Problem::error(format!("`{}` cannot name an environment variable", name.escape_debug()));
            reader.report(problem.at(&text.span, "here").hint("letters, digits and `_`, not beginning with a digit"));
        }
    }
    reader.finish();
    pairs.into_iter().filter(|(name, _)| is_variable(name)).collect()
}

/// Whether `name` can name an environment variable.
pub fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `directive "Service" Key="value"`: what the language has no word for.
fn directive(mut reader: Reader<'_>) -> Option<(String, Vec<(String, Text)>)> {
    let section = reader.required("the name of a section");
    let lines = reader.all_properties();
    let clean = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let bad = lines.iter().find(|(key, _)| !clean(key));
    if let Some((key, text)) = bad {
        let problem = Problem::error(format!("`{}` cannot be a directive of systemd", key.escape_debug()));
        reader.report(problem.at(&text.span, "here"));
    }
    let section = section.filter(|section| {
        let good = clean(&section.raw);
        if !good {
            let problem =
                Problem::error(format!("`{}` cannot be a section of a unit file", section.raw.escape_debug()));
            reader.report(problem.at(&section.span, "here").hint("such as \"Unit\", \"Service\" or \"Install\""));
        }
        good
    });
    let ok = bad.is_none();
    reader.finish();
    ok.then_some((section?.raw, lines))
}

fn has(lines: &[Line], directive: &str) -> bool {
    lines.iter().any(|(key, _)| key == directive)
}

fn default(lines: &mut Vec<Line>, directive: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|_| !has(lines, directive)) {
        let at = if directive == "Description" { 0 } else { lines.len() };
        lines.insert(at, (directive.into(), value.into()));
    }
}

/// Moves the lines of section `name` to the end of `to`.
fn take(sections: &mut Vec<(String, Vec<Line>)>, name: &str, to: &mut Vec<Line>) {
    if let Some(at) = sections.iter().position(|(section, _)| section == name) {
        to.extend(sections.remove(at).1);
    }
}

fn values(lines: &[Line]) -> Vec<Value> {
    lines.iter().map(|(key, value)| minijinja::context! { key, value }).collect()
}
