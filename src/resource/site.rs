//! `site`: an nginx server block and its link.

use camino::{Utf8Path, Utf8PathBuf};
use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::{Kind, ResourceId};
use crate::resource::body::Body;
use crate::resource::health::{self, Health};
use crate::resource::location::{self, Location, Settings};
use crate::resource::lowering::Lowering;
use crate::resource::pool::{LoweredPool, Pool};
use crate::resource::site_file::NginxText;
use crate::resource::site_header::Header;
use crate::resource::state::{Content, PathState, UnitState};
use crate::resource::{Action, Listen, Reaction, Resource, path, unit, value};

/// Where the files of sites are; nginx reads those that a link leads to.
const AVAILABLE: &str = "/etc/nginx/sites-available";

/// A site as a stack describes it.
#[derive(Debug, Clone)]
pub struct Site {
    name: Text,
    names: Vec<Text>,
    listens: Vec<Text>,
    body: Option<Body>,
    tls: Option<Tls>,
    settings: Settings,
    headers: Vec<Header>,
    locations: Vec<Location>,
    pools: Vec<Pool>,
    snippets: Vec<Text>,
    healths: Vec<Health>,
    enabled: Option<bool>,
    path: Option<Text>,
    link: Option<Text>,
    origin: Span,
}

#[derive(Debug, Clone)]
struct Tls {
    cert: Text,
    key: Text,
    redirect: bool,
}

impl Site {
    /// Reads `site "api.example.org" { … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let body = Body::decode(&mut reader, "file");
        let site = Site {
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
            names: reader.values("server-name"),
            listens: reader.values("listen"),
            tls: reader.child("tls").and_then(Tls::decode),
            settings: Settings::decode(&mut reader),
            headers: Header::decode_all(&mut reader),
            locations: Location::decode_all(&mut reader),
            pools: reader.children("pool").into_iter().filter_map(Pool::decode).collect(),
            snippets: reader.values("snippet"),
            healths: Health::decode_all(&mut reader),
            enabled: reader.flag("enabled"),
            path: reader.value("path"),
            link: reader.value("link"),
            origin: reader.span(),
            body,
        };
        let sensible = site.sensible(&reader);
        reader.finish();
        (name.is_some() && sensible).then_some(site)
    }

    fn sensible(&self, reader: &Reader<'_>) -> bool {
        let structured = !self.locations.is_empty() || !self.snippets.is_empty() || !self.pools.is_empty();
        let settings = structured || !self.listens.is_empty() || !self.names.is_empty() || !self.headers.is_empty();
        let problem = match &self.body {
            Some(body) if settings || self.tls.is_some() || !self.settings.is_empty() => {
                Problem::error("a site is either described here or by a file, not both").at(body.span(), "the file")
            }
            None if !structured => Problem::error("this site says nothing about what it serves")
                .at(&self.origin, "this site")
                .hint("add `proxy`, `root`, `redirect` or `snippet`, or give the whole as `file`"),
            _ => return true,
        };
        reader.report(problem);
        false
    }

    /// Whether it has pools whose servers are taken out of them while they are changed.
    pub fn drains(&self) -> bool {
        self.pools.iter().any(Pool::drains)
    }

    /// The site on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let name = site_name(on, &self.name)?;
        let path = self.path(on, &name)?;
        let mut resource = Resource::empty(Kind::Site, &name, on, &self.origin);
        let content = match &self.body {
            Some(body) => verbatim(on, body, &mut resource),
            None => self.render(on, &name, &path, &mut resource),
        }?;
        resource.state.paths.insert(path.clone(), unit::file(content));
        let mut paths = vec![path.clone()];
        if let Some(link) = self.link(&path) {
            let target = match &self.link {
                Some(text) => value::word(on, text)?,
                None => path.to_string(),
            };
            resource.state.paths.insert(link.clone(), PathState::Link { target });
            paths.push(link);
        }
        resource.reactions.push(Reaction { paths, action: Action::Reload("nginx.service".into()) });
        let nginx = UnitState { enabled: None, active: Some(true) };
        resource.state.units.insert("nginx.service".into(), nginx);
        let base = resource.wiring.listens.first().map(|at| (value::reachable(at.address.as_deref()), at.port));
        let host = resource.wiring.serves.first().map(|(name, _)| name.clone());
        resource.checks = health::lower_all(&self.healths, on, base.as_ref(), host.as_deref()).0;
        Some(resource)
    }

    /// Where its file is.
    fn path(&self, on: &Lowering<'_>, name: &str) -> Option<Utf8PathBuf> {
        let Some(text) = &self.path else { return Some(format!("{AVAILABLE}/{name}.conf").into()) };
        let path = path::lower(on, text)?;
        if !path.starts_with("/etc/nginx") {
            let problem = Problem::error(format!("{path} is not below /etc/nginx")).at(&text.span, "here");
            on.report(problem.hint("nginx reads sites-enabled and conf.d there"));
            return None;
        }
        Some(path)
    }

    /// The link that makes nginx read it: for files of sites-available, unless it is not enabled.
    fn link(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        let name = path.strip_prefix(AVAILABLE).ok().filter(|_| self.enabled != Some(false))?;
        Some(Utf8Path::new("/etc/nginx/sites-enabled").join(name))
    }

    fn render(&self, on: &Lowering<'_>, name: &str, path: &Utf8Path, resource: &mut Resource) -> Option<Content> {
        let names = self.server_names(on, name);
        let listens = self.listens(on);
        let pools: Option<Vec<_>> = self.pools.iter().map(|pool| pool.lower(on, name)).collect();
        let tls = match &self.tls {
            Some(tls) => Some(tls.lower(on)?),
            None => None,
        };
        let headers = Header::lower_all(&self.headers, on);
        let (names, listens, pools, headers) = (names?, listens?, pools?, headers?);
        // Who listens on this machine alone stands behind a tunnel or another proxy, which knows how the visitor came.
        let behind = !listens.is_empty() && listens.iter().all(|(_, listen)| listen.as_ref().is_none_or(is_loopback));
        let passes_on = self.locations.iter().any(|location| matches!(location, Location::Proxy(_)));
        let scheme = (behind && passes_on).then(|| variable("scheme", name));
        let visitor = scheme.as_ref().map_or("$scheme".into(), |variable| format!("${variable}"));
        let site = location::Site { name, pools: &pools, headers: &headers, scheme: &visitor };
        let locations = location::lower_all(&self.locations, on, &site)?;
        let snippets: Option<Vec<_>> = self.snippets.iter().map(|text| snippet(on, text)).collect();
        let mut settings: Vec<Value> = locations.iter().flat_map(|location| location.server.clone()).collect();
        settings.extend(self.settings.lower(on)?);
        resource.wiring.serves = names.iter().map(|(name, span)| (name.clone(), span.clone())).collect();
        resource.wiring.pools = pools.iter().filter_map(|pool| pool.upstream(path)).collect();
        resource.wiring.listens = listens.iter().filter_map(|(_, listen)| listen.clone()).collect();
        if let Some(tls) = self.tls.as_ref().filter(|tls| tls.redirect) {
            let span = tls.cert.span.clone();
            resource.wiring.listens.push(Listen { address: None, port: 80, container_port: None, image: None, span });
        }
        resource.wiring.routes = locations.iter().filter_map(|location| location.route.clone()).collect();
        let upgrade = locations.iter().any(|location| location.upgrade).then(|| variable("connection", name));
        let cache = locations.iter().any(|location| location.cache).then(|| variable("cache", name));
        let ssl = if self.tls.is_some() { " ssl" } else { "" };
        let context = context! {
            managed => on.banner(),
            site => name,
            names => names.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            listens => listens.iter().map(|(word, _)| format!("{word}{ssl}")).collect::<Vec<_>>(),
            pools => pools.iter().map(LoweredPool::value).collect::<Vec<_>>(),
            headers => headers.iter().map(header_value).collect::<Vec<_>>(),
            locations => locations.iter().map(|location| location.value.clone()).collect::<Vec<_>>(),
            settings,
            snippets => snippets?.iter().map(|snippet| snippet.trim().to_string()).collect::<Vec<_>>(),
            upgrade => upgrade.unwrap_or_default(),
            cache => cache.unwrap_or_default(),
            scheme => scheme.unwrap_or_default(),
            tls => tls.unwrap_or(Value::from(())),
            redirect_http => self.tls.as_ref().is_some_and(|tls| tls.redirect),
        };
        on.template("nginx/site.j2", context, false, &self.origin)
    }

    fn server_names(&self, on: &Lowering<'_>, name: &str) -> Option<Vec<(String, Span)>> {
        let mut names = vec![(name.to_string(), self.name.span.clone())];
        for text in &self.names {
            let name = on.parsed(text, "a server name", |word| is_server_name(word).then(|| word.to_string()))?;
            names.push((name, text.span.clone()));
        }
        Some(names)
    }

    fn listens(&self, on: &Lowering<'_>) -> Option<Vec<(String, Option<Listen>)>> {
        if self.listens.is_empty() {
            let port = if self.tls.is_some() { 443 } else { 80 };
            let span = self.name.span.clone();
            let listen = Listen { address: None, port, container_port: None, image: None, span };
            return Some(vec![(port.to_string(), Some(listen))]);
        }
        self.listens.iter().map(|text| listen(on, text)).collect()
    }

    /// Where it can be reached: its first `listen`.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Vec<(ResourceId, (String, u16))> {
        let first = match &self.body {
            None => self.listens(on).and_then(|all| all.into_iter().find_map(|(_, listen)| listen)),
            Some(body) => body.lower_with_source(on).and_then(|(content, source)| {
                let text = String::from_utf8_lossy(&content.bytes).into_owned();
                let file = NginxText::new(&text, source, body.span());
                file.parse().ok().and_then(|directives| file.wiring(&directives).listens.into_iter().next())
            }),
        };
        let (Some(name), Some(listen)) = (site_name(on, &self.name), first) else { return Vec::new() };
        let host = value::reachable(listen.address.as_deref());
        vec![(ResourceId::new(Kind::Site, name), (host, listen.port))]
    }
}

impl Tls {
    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let (cert, key) = (reader.value("cert"), reader.value("key"));
        let redirect = reader.flag("redirect-http").unwrap_or(false);
        if cert.is_none() || key.is_none() {
            let problem = Problem::error("`tls` needs both `cert` and `key`").at(&reader.span(), "here");
            reader.report(problem.hint("give the paths of both files on the host"));
        }
        reader.finish();
        Some(Tls { cert: cert?, key: key?, redirect })
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<Value> {
        let (cert, key) = (value::word(on, &self.cert)?, value::word(on, &self.key)?);
        Some(context! { cert, key })
    }
}

/// Whether it can be reached from this machine alone.
fn is_loopback(listen: &Listen) -> bool {
    let address = listen.address.as_deref().unwrap_or_default();
    address.starts_with("127.") || matches!(address, "localhost" | "::1" | "[::1]")
}

fn header_value((name, value): &(String, String)) -> Value {
    context! { name, value }
}

/// The user's own file, checked for form and read for its wiring.
fn verbatim(on: &Lowering<'_>, body: &Body, resource: &mut Resource) -> Option<Content> {
    let (content, source) = body.lower_with_source(on)?;
    let text = String::from_utf8_lossy(&content.bytes).into_owned();
    let file = NginxText::new(&text, source, body.span());
    match file.parse() {
        Ok(directives) => resource.wiring = file.wiring(&directives),
        Err(problem) => {
            on.report(problem.at(body.span(), "used here"));
            return None;
        }
    }
    Some(content)
}

/// Raw lines for the server block: in good form, so that they cannot close it.
fn snippet(on: &Lowering<'_>, text: &Text) -> Option<String> {
    let lines = on.text(text)?;
    match NginxText::new(&lines, None, &text.span).parse() {
        Ok(_) => Some(lines),
        Err(problem) => {
            on.report(problem);
            None
        }
    }
}

/// A site's name: a host name, possibly with a wildcard as its first part.
fn site_name(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "a site's name (letters, digits, `.`, `-` and `_`)", |word| {
        let good = is_server_name(word) && !word.contains('*');
        good.then(|| word.to_string())
    })
}

fn is_server_name(word: &str) -> bool {
    let clean = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
    !word.is_empty() && word.len() <= 253 && word.chars().all(clean) && !word.contains("..") && !word.starts_with('-')
}

/// `80`, `127.0.0.1:8081`, `[::]:80`, `unix:/run/app.sock`, with nginx's own words after it.
fn listen(on: &Lowering<'_>, text: &Text) -> Option<(String, Option<Listen>)> {
    let what = "an address to listen on, such as 80 or 127.0.0.1:8081";
    on.parsed(text, what, |line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        let known = |word: &str| ["default_server", "ssl", "http2", "reuseport", "proxy_protocol"].contains(&word);
        let rest: Vec<&str> = words.collect();
        if !rest.iter().copied().all(known) {
            return None;
        }
        if let Some(path) = address.strip_prefix("unix:") {
            let clean = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            return (path.starts_with('/') && path.chars().all(clean)).then(|| (line.to_string(), None));
        }
        let (host, port) = value::parse_address(address)?;
        let span = text.span.clone();
        let listen = Listen { address: host, port, container_port: None, image: None, span };
        let line = std::iter::once(address).chain(rest).collect::<Vec<_>>().join(" ");
        Some((line, Some(listen)))
    })
}

/// A name for an nginx variable that other sites do not use.
pub(super) fn variable(what: &str, site: &str) -> String {
    let clean: String = site.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{what}_{clean}")
}
