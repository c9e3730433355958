//! `tunnel`: a Cloudflare tunnel run by cloudflared: its rules, its credentials and its unit.

use camino::Utf8PathBuf;
use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::id::Kind;
use crate::resource::body::Body;
use crate::resource::lowering::{Lowering, content};
use crate::resource::reference::{self, Hop};
use crate::resource::state::{Content, Owner, PathState, UnitState};
use crate::resource::{Action, Reaction, Resource, Route, health, path, tunnel_file, unit, value};

/// A tunnel as a stack describes it.
#[derive(Debug, Clone)]
pub struct Tunnel {
    name: Text,
    id: Option<Text>,
    credentials: Option<Text>,
    credentials_file: Option<Text>,
    config: Option<Text>,
    bin: Option<Text>,
    body: Option<Body>,
    rules: Vec<Rule>,
    otherwise: Option<Text>,
    origin: Span,
}

/// Requests for one name, and where they go.
#[derive(Debug, Clone)]
struct Rule {
    name: Text,
    to: Text,
    path: Option<Text>,
    no_tls_verify: bool,
    origin_host: Option<Text>,
}

impl Tunnel {
    /// Reads `tunnel "main" { route "api.example.org" to="site:api.example.org" }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let tunnel = Tunnel {
            id: reader.value("id"),
            credentials: reader.value("credentials"),
            credentials_file: reader.value("credentials-file"),
            config: reader.value("config"),
            bin: reader.value("bin"),
            body: Body::decode(&mut reader, "file"),
            rules: reader.children("route").into_iter().filter_map(Rule::decode).collect(),
            otherwise: reader.value("otherwise"),
            origin: reader.span(),
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
        };
        let sensible = tunnel.sensible(&reader);
        reader.finish();
        (name.is_some() && sensible).then_some(tunnel)
    }

    fn sensible(&self, reader: &Reader<'_>) -> bool {
        let described = self.id.as_ref().or(self.rules.first().map(|rule| &rule.name)).or(self.otherwise.as_ref());
        let problem = match (&self.body, described) {
            (Some(body), Some(text)) => Problem::error("a tunnel is either described here or by a file, not both")
                .at(&text.span, "described here")
                .at(body.span(), "and by a file"),
            (None, _) if self.rules.is_empty() => Problem::error("this tunnel has no `route`")
                .at(&self.origin, "this tunnel")
                .hint("add `route \"api.example.org\" to=\"http://127.0.0.1:8081\"`, or give the whole as `file`"),
            (None, _) if self.id.is_none() => Problem::error("this tunnel has no `id`")
                .at(&self.origin, "this tunnel")
                .hint("add `id \"…\"`: `cloudflared tunnel list` shows it"),
            _ => match (&self.credentials, &self.credentials_file) {
                (Some(one), Some(other)) => Problem::error("the credentials are given twice")
                    .at(&one.span, "their content")
                    .at(&other.span, "and a file on the host"),
                _ => return true,
            },
        };
        reader.report(problem);
        false
    }

    /// The tunnel on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let name = on.parsed(&self.name, "the name of a tunnel (letters, digits, `-` and `_`)", |word| {
            let clean = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            (!word.is_empty() && word.len() <= 64 && word.chars().all(clean)).then(|| word.to_string())
        })?;
        let main = name == "main";
        let config: Utf8PathBuf = match &self.config {
            Some(text) => path::lower(on, text)?,
            None if main => "/etc/cloudflared/config.yml".into(),
            None => format!("/etc/cloudflared/{name}.yml").into(),
        };
        let service = if main { "cloudflared.service".into() } else { format!("cloudflared-{name}.service") };
        let mut resource = Resource::empty(Kind::Tunnel, &name, on, &self.origin);
        let rules = match &self.body {
            Some(body) => self.verbatim(on, &name, body, &mut resource),
            None => self.render(on, &name, &mut resource),
        }?;
        resource.state.paths.insert(config.clone(), unit::file(rules));
        let used: Vec<Utf8PathBuf> = resource.state.paths.keys().cloned().collect();
        resource.reactions.push(Reaction { paths: used, action: Action::Restart(service.clone()) });

        let own: Utf8PathBuf = format!("/etc/systemd/system/{service}").into();
        resource.state.paths.insert(own.clone(), unit::file(self.unit(on, &name, &config)?));
        resource.reactions.push(Reaction { paths: vec![own], action: Action::ByDirective(service.clone()) });
        let running = UnitState { enabled: Some(true), active: Some(true) };
        resource.state.units.insert(service.clone(), running);
        resource.checks.push(health::active(service, &health::Terms::default()));
        Some(resource)
    }

    fn unit(&self, on: &Lowering<'_>, name: &str, config: &Utf8PathBuf) -> Option<Content> {
        let bin = match &self.bin {
            Some(text) => path::lower(on, text)?.into_string(),
            None => "/usr/bin/cloudflared".into(),
        };
        let context = context! { managed => on.banner(), name, bin, config => config.as_str() };
        on.template("cloudflared/service.j2", context, false, &self.origin)
    }

    /// The user's own configuration, checked as cloudflared would.
    fn verbatim(&self, on: &Lowering<'_>, name: &str, body: &Body, resource: &mut Resource) -> Option<Content> {
        let (content, source) = body.lower_with_source(on)?;
        let instead = source.is_none().then(|| body.span().clone());
        let source = source.unwrap_or_else(|| Source::new(body.span().path(), String::from_utf8_lossy(&content.bytes)));
        match tunnel_file::read(&source, instead.as_ref()) {
            Ok(routes) => resource.wiring.routes = routes,
            Err(problem) => {
                on.report(problem.at(body.span(), "used here"));
                return None;
            }
        }
        self.credentials(on, name, resource)?;
        Some(content)
    }

    fn render(&self, on: &Lowering<'_>, name: &str, resource: &mut Resource) -> Option<Content> {
        let id = on.parsed(self.id.as_ref()?, "the id of a tunnel", |word| {
            let clean = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            (!word.is_empty() && word.len() <= 64 && word.chars().all(clean)).then(|| word.to_string())
        })?;
        let credentials = self.credentials(on, &id, resource)?;
        let rules: Vec<Option<(Value, Route)>> = self.rules.iter().map(|rule| rule.lower(on)).collect();
        let rules: Vec<(Value, Route)> = rules.into_iter().collect::<Option<_>>()?;
        let otherwise = match &self.otherwise {
            Some(text) => service(on, text)?,
            None => Hop { url: "http_status:404".into(), to: None, reference: None },
        };
        shadowed(on, &rules)?;
        resource.wiring.routes = rules.iter().map(|(_, route)| route.clone()).collect();
        let span = self.otherwise.as_ref().map_or(&self.origin, |text| &text.span).clone();
        let last = Route { name: None, path: "/".into(), to: otherwise.to, reference: otherwise.reference, span };
        resource.wiring.routes.push(last);
        let context = context! {
            managed => on.banner(), name, tunnel => id, credentials,
            rules => rules.into_iter().map(|(rule, _)| rule).collect::<Vec<_>>(), otherwise => otherwise.url,
        };
        on.template("cloudflared/config.yml.j2", context, false, &self.origin)
    }

    /// Where the credentials are on the host; puts them there if the stack has them.
    fn credentials(&self, on: &Lowering<'_>, name: &str, resource: &mut Resource) -> Option<String> {
        if let Some(text) = &self.credentials_file {
            return value::word(on, text);
        }
        let path = format!("/etc/cloudflared/{name}.json");
        if let Some(text) = &self.credentials {
            let content = content(on.rendered(text)?);
            // Whatever it was made from, it is a key.
            let content = Content { secret: true, ..content };
            let state = PathState::File { content, mode: 0o600, owner: Owner::root() };
            resource.state.paths.insert(path.clone().into(), state);
        }
        Some(path)
    }
}

impl Rule {
    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a host name");
        let to = reader.value("to");
        if to.is_none() {
            let problem = Problem::error("`route` needs `to`").at(&reader.span(), "here");
            reader.report(problem.hint("add `to=\"site:api.example.org\"` or `to=\"http://127.0.0.1:8081\"`"));
        }
        let path = reader.value("path");
        let no_tls_verify = reader.flag("no-tls-verify").unwrap_or(false);
        let origin_host = reader.value("origin-host");
        reader.finish();
        Some(Rule { name: name?, to: to?, path, no_tls_verify, origin_host })
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<(Value, Route)> {
        let name = on.parsed(&self.name, "a host name such as api.example.org or *.example.org", |word| {
            let rest = word.strip_prefix("*.").unwrap_or(word);
            let clean = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            (!rest.is_empty() && rest.len() <= 253 && rest.chars().all(clean)).then(|| word.to_string())
        })?;
        let hop = service(on, &self.to)?;
        let path = match &self.path {
            Some(text) => Some(value::word(on, text)?),
            None => None,
        };
        let mut origin = Vec::new();
        if self.no_tls_verify {
            origin.push(context! { key => "noTLSVerify", value => true });
        }
        if let Some(text) = &self.origin_host {
            origin.push(context! { key => "httpHostHeader", value => value::word(on, text)? });
        }
        let rule = context! { hostname => name.clone(), path => path.as_deref().unwrap_or_default(), service => hop.url, origin };
        let route = Route {
            name: Some(name),
            path: path.unwrap_or_else(|| "/".into()),
            to: hop.to,
            reference: hop.reference,
            span: self.name.span.clone(),
        };
        Some((rule, route))
    }
}

/// A rule for a name and path that an earlier one has taken is never reached.
fn shadowed(on: &Lowering<'_>, rules: &[(Value, Route)]) -> Option<()> {
    for (at, (_, route)) in rules.iter().enumerate() {
        let taken =
            |(_, other): &&(Value, Route)| other.name == route.name && (other.path == route.path || other.path == "/");
        if let Some((_, other)) = rules[..at].iter().find(taken) {
            let problem = Problem::error("this rule is never reached").at(&route.span, "this rule");
            on.report(problem.at(&other.span, "this one takes its requests").hint("put the narrower rule first"));
            return None;
        }
    }
    Some(())
}

/// What cloudflared calls a service: a URL, a resource, or a status to answer with.
fn service(on: &Lowering<'_>, text: &Text) -> Option<Hop> {
    let word = value::word(on, text)?;
    let nowhere = |url: String| Some(Hop { url, to: None, reference: None });
    let status = word.strip_prefix("http_status:").unwrap_or(&word);
    if status.len() == 3 && status.chars().all(|c| c.is_ascii_digit()) {
        return nowhere(format!("http_status:{status}"));
    }
    if word.starts_with("unix:/") || word == "hello_world" {
        return nowhere(word);
    }
    for scheme in ["tcp://", "ssh://", "rdp://", "smb://"] {
        if let Some((host, port)) = word.strip_prefix(scheme).and_then(value::parse_address) {
            return Some(Hop { to: host.map(|host| (host, port)), url: word, reference: None });
        }
    }
    reference::resolve(on, text)
}
