//! What an nginx server block does with requests: `proxy`, `root`, `redirect`, `expires`, and the headers around them.

use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::base::template::quote_nginx;
use crate::resource::lowering::Lowering;
use crate::resource::pool::LoweredPool;
use crate::resource::proxy::Proxy;
use crate::resource::site_header::put;
use crate::resource::{Route, value};

/// What is worth compressing.
const GZIP_TYPES: &str = "text/plain text/css text/xml application/json application/javascript application/rss+xml \
                          application/atom+xml image/svg+xml";

/// What a location needs to know of its site.
pub struct Site<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its pools.
    pub pools: &'a [LoweredPool],
    /// The headers of all its answers.
    pub headers: &'a [(String, String)],
    /// The variable that says how the visitor came: `$scheme`, or what a proxy in front says.
    pub scheme: &'a str,
}

/// Settings of the whole server block.
#[derive(Debug, Clone)]
pub struct Settings {
    max_body: Option<Text>,
    gzip: Option<bool>,
}

impl Settings {
    /// Reads them.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Settings { max_body: reader.value("max-body"), gzip: reader.flag("gzip") }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.max_body.is_none() && self.gzip.is_none()
    }

    /// The directives for them.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Vec<Value>> {
        let mut lines = Vec::new();
        if let Some(text) = &self.max_body {
            lines.push(line("client_max_body_size", on.parsed(text, "a size such as 16M", size)?));
        }
        if self.gzip == Some(true) {
            lines.push(line("gzip", "on"));
            lines.push(line("gzip_vary", "on"));
            lines.push(line("gzip_proxied", "any"));
            lines.push(line("gzip_types", GZIP_TYPES));
        }
        if self.gzip == Some(false) {
            lines.push(line("gzip", "off"));
        }
        Some(lines)
    }
}

/// `16M`, `512k`, `0`.
fn size(word: &str) -> Option<String> {
    let digits = word.strip_suffix(|c: char| "kKmMgG".contains(c)).unwrap_or(word);
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then(|| word.to_string())
}

/// What is done with requests to some paths.
#[derive(Debug, Clone)]
pub enum Location {
    /// `proxy "/" to="…"`
    Proxy(Box<Proxy>),
    /// `root "/var/www/x"`
    Root {
        /// The folder on the host.
        folder: Text,
        /// Whether unknown paths get the index.
        spa: bool,
        /// The index file.
        index: Option<Text>,
    },
    /// `redirect "/old" to="/new"`
    Redirect {
        /// The path.
        path: Text,
        /// Where to.
        to: Text,
        /// The status.
        code: Option<Text>,
    },
    /// `expires "jpg" "css" for="30d"`
    Expires {
        /// File name extensions.
        extensions: Vec<Text>,
        /// For how long browsers may keep them.
        lifetime: Text,
    },
}

/// A location on one host.
pub struct Lowered {
    /// For the template.
    pub value: Value,
    /// Whether it passes on `WebSocket` connections.
    pub upgrade: bool,
    /// Whether it caches.
    pub cache: bool,
    /// Directives of the server block that it needs.
    pub server: Vec<Value>,
    /// Where its requests go.
    pub route: Option<Route>,
}

impl Lowered {
    pub(super) fn new(value: Value, route: Option<Route>) -> Self {
        Lowered { value, upgrade: false, cache: false, server: Vec::new(), route }
    }
}

impl Location {
    /// Reads all `proxy`, `root`, `redirect` and `expires` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let mut all = Vec::new();
        all.extend(reader.children("redirect").into_iter().filter_map(Location::redirect));
        all.extend(reader.children("proxy").into_iter().filter_map(Proxy::decode).map(Location::Proxy));
        all.extend(reader.child("root").and_then(Location::root));
        all.extend(reader.children("expires").into_iter().filter_map(Location::expires));
        all
    }

    fn redirect(mut reader: Reader<'_>) -> Option<Self> {
        let path = reader.required("a path");
        let (to, code) = (reader.value("to"), reader.value("code"));
        needs(&reader, "to", to.as_ref());
        reader.finish();
        Some(Location::Redirect { path: path?, to: to?, code })
    }

    fn root(mut reader: Reader<'_>) -> Option<Self> {
        let folder = reader.required("a path");
        let (spa, index) = (reader.flag("spa").unwrap_or(false), reader.value("index"));
        reader.finish();
        Some(Location::Root { folder: folder?, spa, index })
    }

    fn expires(mut reader: Reader<'_>) -> Option<Self> {
        let extensions = reader.args();
        let lifetime = reader.value("for");
        needs(&reader, "for", lifetime.as_ref());
        if extensions.is_empty() {
            let problem = Problem::error("`expires` names no file name extension").at(&reader.span(), "here");
            reader.report(problem.hint("write `expires \"jpg\" \"css\" for=\"30d\"`"));
        }
        reader.finish();
        (!extensions.is_empty()).then_some(Location::Expires { extensions, lifetime: lifetime? })
    }
}

pub(super) fn needs(reader: &Reader<'_>, property: &str, given: Option<&Text>) {
    if given.is_none() {
        let problem = Problem::error(format!("`{}` needs `{property}`", reader.name())).at(&reader.span(), "here");
        reader.report(problem.hint(format!("add `{property}=\"…\"`")));
    }
}

/// All locations of a site.
pub fn lower_all(locations: &[Location], on: &Lowering<'_>, site: &Site<'_>) -> Option<Vec<Lowered>> {
    let mut all = Vec::new();
    let mut whole = None;
    for location in locations {
        let lowered = match location {
            Location::Proxy(proxy) => {
                let lowered = proxy.lower(on, site);
                if proxy.is_whole() {
                    whole = lowered.as_ref().and_then(|lowered| lowered.value.get_attr("proxy").ok());
                }
                lowered
            }
            Location::Root { folder, spa, index } => root(on, folder, *spa, index.as_ref()),
            Location::Redirect { path, to, code } => redirect(on, path, to, code.as_ref()),
            // Without the proxy these requests would look for files that are not here.
            Location::Expires { extensions, lifetime } => expires(on, extensions, lifetime, whole.clone()),
        };
        all.push(lowered);
    }
    let all: Vec<Lowered> = all.into_iter().collect::<Option<_>>()?;
    taken_twice(on, &all)?;
    Some(all)
}

/// nginx refuses two locations for the same path.
fn taken_twice(on: &Lowering<'_>, all: &[Lowered]) -> Option<()> {
    let routes: Vec<&Route> = all.iter().filter_map(|lowered| lowered.route.as_ref()).collect();
    for (at, route) in routes.iter().enumerate() {
        if let Some(other) = routes[..at].iter().find(|other| other.path == route.path) {
            let problem = Problem::error(format!("two parts of this site take `{}`", route.path));
            let problem = problem.at(&route.span, "this one").at(&other.span, "and this one");
            on.report(problem.hint("give one of them a longer path"));
            return None;
        }
    }
    Some(())
}

fn root(on: &Lowering<'_>, folder: &Text, spa: bool, index: Option<&Text>) -> Option<Lowered> {
    let index = match index {
        Some(text) => on.parsed(text, "the name of a file", |word| {
            (!word.is_empty() && !word.contains(['/', '$', ';', '{', '}'])).then(|| word.to_string())
        })?,
        None => "index.html".into(),
    };
    let index = quote(on, &index, folder)?;
    let path = value::word(on, folder)?;
    if !path.starts_with('/') {
        on.report(Problem::error(format!("`{path}` is not an absolute path")).at(&folder.span, "here"));
        return None;
    }
    // The server block has them, so that all its locations look for files there.
    let server = vec![line("root", quote(on, &path, folder)?), line("index", index.clone())];
    let fallback = if spa { format!("/{index}") } else { "=404".into() };
    let lines = vec![line("try_files", format!("$uri $uri/ {fallback}"))];
    let value = context! { match => "/", lines, proxy => false, headers => Vec::<Value>::new() };
    let route = Route { name: None, path: "/".into(), to: None, reference: None, span: folder.span.clone() };
    Some(Lowered { server, ..Lowered::new(value, Some(route)) })
}

fn redirect(on: &Lowering<'_>, path: &Text, to: &Text, code: Option<&Text>) -> Option<Lowered> {
    let matcher = on.parsed(path, PATH, |word| match word.strip_suffix('*') {
        _ if word == "/" => Some("/".to_string()),
        Some(prefix) => matcher(prefix),
        None if word.starts_with('/') => matcher(&format!("= {word}")),
        None => matcher(word),
    })?;
    let code = match code {
        Some(text) => on.parsed(text, "one of 301, 302, 303, 307 and 308", |word| {
            ["301", "302", "303", "307", "308"].contains(&word).then(|| word.to_string())
        })?,
        None => "301".into(),
    };
    let target = value::word(on, to)?;
    let target = quote(on, &target, to)?;
    let lines = vec![line("return", format!("{code} {target}"))];
    let value = context! { match => quoted_matcher(&matcher), lines, proxy => false, headers => Vec::<Value>::new() };
    let route = Route { name: None, path: matcher, to: None, reference: None, span: path.span.clone() };
    Some(Lowered::new(value, Some(route)))
}

fn expires(on: &Lowering<'_>, extensions: &[Text], lifetime: &Text, proxy: Option<Value>) -> Option<Lowered> {
    let extension = |word: &str| {
        let word = word.strip_prefix('.').unwrap_or(word);
        (!word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric())).then(|| word.to_string())
    };
    let extensions: Option<Vec<String>> =
        extensions.iter().map(|text| on.parsed(text, "a file name extension", extension)).collect();
    let lines = vec![line("expires", time(on, lifetime)?)];
    let matcher = format!("~* \\.({})$", extensions?.join("|"));
    let value = context! { match => matcher, lines, proxy => proxy.unwrap_or(Value::from(false)), headers => Vec::<Value>::new() };
    Some(Lowered::new(value, None))
}

/// A location with headers of its own loses those of the server block: nginx inherits all or none. So they are repeated.
pub(super) fn repeated(site: &Site<'_>, own: &[(String, String)]) -> Vec<Value> {
    if own.is_empty() {
        return Vec::new();
    }
    let mut all = site.headers.to_vec();
    for (name, value) in own {
        put(&mut all, name.clone(), value.clone());
    }
    header_values(&all)
}

pub(super) fn header_values(headers: &[(String, String)]) -> Vec<Value> {
    headers.iter().map(|(name, value)| context! { name, value }).collect()
}

pub(super) const PATH: &str = "a path such as \"/\", \"/api/\", \"= /exact\" or \"~ ^/regular/\"";

/// Checks what stands after `location`.
pub(super) fn matcher(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let (kind, path) = word.split_once(' ').unwrap_or(("", word));
    let plain = path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || "\"'\\;{}".contains(c));
    match kind {
        "" | "=" | "^~" if plain => Some(word.to_string()),
        "~" | "~*" if !path.is_empty() => Some(word.to_string()),
        _ => None,
    }
}

/// A regular expression is quoted, so that its braces and semicolons stay in it.
pub(super) fn quoted_matcher(matcher: &str) -> String {
    match matcher.split_once(' ') {
        // In nginx a backslash before anything but a quote stays as it is.
        Some((kind, expression)) if kind.starts_with('~') => format!("{kind} \"{}\"", expression.replace('"', "\\\"")),
        _ => matcher.to_string(),
    }
}

pub(super) fn line(key: &str, value: impl Into<String>) -> Value {
    let value: String = value.into();
    context! { key, value }
}

fn quote(on: &Lowering<'_>, word: &str, at: &Text) -> Option<String> {
    quote_nginx(word).map_err(|why| on.report(Problem::error(why).at(&at.span, "here"))).ok()
}

/// A span of time as nginx writes it.
pub(super) fn time(on: &Lowering<'_>, text: &Text) -> Option<String> {
    let span = value::duration(on, text)?;
    let millis = span.as_millis();
    Some(match millis {
        _ if millis % 86_400_000 == 0 && millis > 0 => format!("{}d", millis / 86_400_000),
        _ if millis % 1000 == 0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    })
}
