//! What an nginx server block does with requests: `proxy`, `root`, `redirect`, `expires`, and the headers around them.

use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, did_you_mean};
use crate::base::template::quote_nginx;
use crate::resource::lowering::Lowering;
use crate::resource::reference::{self, Hop};
use crate::resource::site::variable;
use crate::resource::{Route, value};

/// The header set `headers "security"`.
const SECURITY: [(&str, &str); 6] = [
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-XSS-Protection", "1; mode=block"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer-when-downgrade"),
    ("Content-Security-Policy", "default-src 'self' http: https: data: blob: 'unsafe-inline'"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
];

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

/// A header of answers, or a set of them.
#[derive(Debug, Clone)]
pub enum Header {
    /// `headers "security"`
    Set(Text),
    /// `header "X-Robots-Tag" "none"`
    One(Text, Text),
}

impl Header {
    /// Reads all `headers` and `header` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let mut headers: Vec<Header> = reader.values("headers").into_iter().map(Header::Set).collect();
        for mut node in reader.children("header") {
            let (name, value) = (node.required("a name"), node.required("a value after the name"));
            node.finish();
            headers.extend(name.zip(value).map(|(name, value)| Header::One(name, value)));
        }
        headers
    }

    /// Names and values; a header given later replaces one of the same name.
    pub fn lower_all(headers: &[Header], on: &Lowering<'_>) -> Option<Vec<(String, String)>> {
        let mut all: Vec<(String, String)> = Vec::new();
        for header in headers {
            match header {
                Header::Set(text) => {
                    on.parsed(text, "a set of headers (there is \"security\")", |word| {
                        (word == "security").then_some(())
                    })?;
                    SECURITY.iter().for_each(|(name, value)| put(&mut all, (*name).into(), (*value).into()));
                }
                Header::One(name, value) => {
                    let name = on.parsed(name, "the name of a header", header_name)?;
                    let value = value::word(on, value)?;
                    put(&mut all, name, value);
                }
            }
        }
        Some(all)
    }
}

fn put(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
        Some(known) => known.1 = value,
        None => all.push((name, value)),
    }
}

fn header_name(word: &str) -> Option<String> {
    let clean = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    (!word.is_empty() && word.chars().all(clean)).then(|| word.to_string())
}

/// `16M`, `512k`, `0`.
fn size(word: &str) -> Option<String> {
    let digits = word.strip_suffix(|c: char| "kKmMgG".contains(c)).unwrap_or(word);
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then(|| word.to_string())
}

/// A group of servers that share the work.
#[derive(Debug, Clone)]
pub struct Pool {
    name: Text,
    servers: Vec<Server>,
}

#[derive(Debug, Clone)]
struct Server {
    address: Text,
    weight: Option<Text>,
    max_fails: Option<Text>,
    fail_timeout: Option<Text>,
    backup: bool,
}

/// A pool on one host.
pub struct LoweredPool {
    /// Its name in the stack.
    name: String,
    /// Its name in nginx, which all sites share.
    upstream: String,
    /// The arguments of the `server` directives.
    servers: Vec<String>,
    first: Option<(String, u16)>,
}

impl LoweredPool {
    /// For the template.
    pub fn value(&self) -> Value {
        context! { name => self.upstream.clone(), servers => self.servers.clone() }
    }
}

impl Pool {
    /// Reads `pool "api" { server "10.0.0.1:8080" … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let servers: Vec<Server> = reader.children("server").into_iter().filter_map(Server::decode).collect();
        if servers.is_empty() {
            let problem = Problem::error("this pool has no server").at(&reader.span(), "here");
            reader.report(problem.hint("add `server \"10.0.0.1:8080\"`"));
        }
        reader.finish();
        Some(Pool { name: name?, servers })
    }

    /// The pool on one host, for one site.
    pub fn lower(&self, on: &Lowering<'_>, site: &str) -> Option<LoweredPool> {
        let name = on.parsed(&self.name, "the name of a pool (letters, digits, `-` and `_`)", header_name)?;
        let servers: Vec<(String, (String, u16))> =
            self.servers.iter().map(|server| server.lower(on)).collect::<Option<_>>()?;
        let first = servers.first().map(|(_, at)| at.clone());
        let upstream = variable(&name, site);
        Some(LoweredPool { name, upstream, servers: servers.into_iter().map(|(line, _)| line).collect(), first })
    }
}

impl Server {
    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let address = reader.required("an address with a port");
        let server = Server {
            weight: reader.value("weight"),
            max_fails: reader.value("max-fails"),
            fail_timeout: reader.value("fail-timeout"),
            backup: reader.flag("backup").unwrap_or(false),
            address: address.clone()?,
        };
        reader.finish();
        Some(server)
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<(String, (String, u16))> {
        let what = "an address with a port, such as 10.0.0.1:8080";
        let at = on.parsed(&self.address, what, |word| {
            let (host, port) = value::parse_address(word)?;
            Some((host?, port))
        })?;
        let mut line = format!("{}:{}", at.0, at.1);
        let number = |word: &str| word.parse::<u32>().ok();
        if let Some(text) = &self.weight {
            line += &format!(" weight={}", on.parsed(text, "a number", number)?);
        }
        if let Some(text) = &self.max_fails {
            line += &format!(" max_fails={}", on.parsed(text, "a number", number)?);
        }
        if let Some(text) = &self.fail_timeout {
            line += &format!(" fail_timeout={}", time(on, text)?);
        }
        if self.backup {
            line += " backup";
        }
        Some((line, at))
    }
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

/// Requests passed on.
#[derive(Debug, Clone)]
pub struct Proxy {
    path: Text,
    to: Text,
    strip: bool,
    websocket: bool,
    timeouts: Vec<(&'static str, Text)>,
    cache: Option<Text>,
    buffering: Option<bool>,
    headers: Vec<Header>,
    set_headers: Vec<(Text, Text)>,
}

/// A location on one host.
pub struct Lowered {
    /// For the template.
    pub value: Value,
    /// Whether it passes on WebSockets.
    pub upgrade: bool,
    /// Whether it caches.
    pub cache: bool,
    /// Where its requests go.
    pub routes: Vec<Route>,
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

fn needs(reader: &Reader<'_>, property: &str, given: Option<&Text>) {
    if given.is_none() {
        let problem = Problem::error(format!("`{}` needs `{property}`", reader.name())).at(&reader.span(), "here");
        reader.report(problem.hint(format!("add `{property}=\"…\"`")));
    }
}

impl Proxy {
    fn decode(mut reader: Reader<'_>) -> Option<Box<Self>> {
        let path = reader.required("a path");
        let to = reader.value("to");
        needs(&reader, "to", to.as_ref());
        let mut timeouts = Vec::new();
        for (property, directive) in [
            ("connect-timeout", "proxy_connect_timeout"),
            ("send-timeout", "proxy_send_timeout"),
            ("read-timeout", "proxy_read_timeout"),
        ] {
            timeouts.extend(reader.value(property).map(|text| (directive, text)));
        }
        let mut set_headers = Vec::new();
        for mut node in reader.children("set-header") {
            let (name, value) = (node.required("a name"), node.required("a value after the name"));
            node.finish();
            set_headers.extend(name.zip(value));
        }
        let proxy = Proxy {
            strip: reader.flag("strip").unwrap_or(false),
            websocket: reader.flag("websocket").unwrap_or(true),
            cache: reader.value("cache"),
            buffering: reader.flag("buffering"),
            headers: Header::decode_all(&mut reader),
            path: path.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
            to: to.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
            timeouts,
            set_headers,
        };
        reader.finish();
        (path.is_some() && to.is_some()).then(|| Box::new(proxy))
    }

    fn lower(&self, on: &Lowering<'_>, site: &Site<'_>) -> Option<Lowered> {
        let path = on.parsed(&self.path, PATH, matcher);
        let hop = self.hop(on, site);
        let own = Header::lower_all(&self.headers, on);
        let (mut path, hop, mut own) = (path?, hop?, own?);
        let mut url = hop.url.clone();
        if self.strip {
            if !path.starts_with('/') {
                let problem = Problem::error("`strip` goes with a plain path only").at(&self.path.span, "this path");
                on.report(problem);
                return None;
            }
            // With a slash at both ends nginx replaces the prefix itself, and sends `/api` to `/api/`.
            path = format!("{}/", path.trim_end_matches('/'));
            url = format!("{}/", url.trim_end_matches('/'));
        }
        let mut settings = Vec::new();
        for (directive, text) in &self.timeouts {
            settings.push(line(directive, time(on, text)?));
        }
        if let Some(on_or_off) = self.buffering {
            settings.push(line("proxy_buffering", if on_or_off { "on" } else { "off" }));
        }
        if let Some(text) = &self.cache {
            settings.push(line("proxy_cache", variable("cache", site.name)));
            settings.push(line("proxy_cache_valid", format!("200 301 302 {}", time(on, text)?)));
            settings.push(line("proxy_cache_use_stale", "error timeout http_500 http_502 http_503 http_504"));
            settings.push(line("proxy_cache_lock", "on"));
            put(&mut own, "X-Cache-Status".into(), "$upstream_cache_status".into());
        }
        let set_headers = self.request_headers(on, site)?;
        let proxy = context! { url, set_headers => header_values(&set_headers), settings };
        let headers = repeated(site, &own);
        let value = context! { match => quoted_matcher(&path), lines => Vec::<Value>::new(), proxy, headers };
        let route =
            Route { name: None, path: path.clone(), to: hop.to, reference: hop.reference, span: self.to.span.clone() };
        Some(Lowered { value, upgrade: self.websocket, cache: self.cache.is_some(), routes: vec![route] })
    }

    fn hop(&self, on: &Lowering<'_>, site: &Site<'_>) -> Option<Hop> {
        let word = on.text(&self.to)?;
        let Some(name) = word.strip_prefix("pool:") else { return reference::resolve(on, &self.to) };
        if let Some(pool) = site.pools.iter().find(|pool| pool.name == name) {
            return Some(Hop { url: format!("http://{}", pool.upstream), to: pool.first.clone(), reference: None });
        }
        let problem = Problem::error(format!("this site has no pool called `{name}`")).at(&self.to.span, "named here");
        on.report(match did_you_mean(name, site.pools.iter().map(|pool| pool.name.as_str())) {
            Some(near) => problem.hint(format!("did you mean `pool:{near}`?")),
            None => problem.hint(format!("add `pool \"{name}\" {{ server \"10.0.0.1:8080\" }}` to the site")),
        });
        None
    }

    fn request_headers(&self, on: &Lowering<'_>, site: &Site<'_>) -> Option<Vec<(String, String)>> {
        let mut headers: Vec<(String, String)> = vec![
            ("Host".into(), "$host".into()),
            ("X-Real-IP".into(), "$remote_addr".into()),
            ("X-Forwarded-For".into(), "$proxy_add_x_forwarded_for".into()),
            ("X-Forwarded-Proto".into(), "$scheme".into()),
        ];
        if self.websocket {
            headers.push(("Upgrade".into(), "$http_upgrade".into()));
            headers.push(("Connection".into(), format!("${}", variable("connection", site.name))));
        }
        for (name, text) in &self.set_headers {
            let name = on.parsed(name, "the name of a header", header_name)?;
            put(&mut headers, name, value::word(on, text)?);
        }
        Some(headers)
    }
}

/// All locations of a site.
pub fn lower_all(locations: &[Location], on: &Lowering<'_>, site: &Site<'_>) -> Option<Vec<Lowered>> {
    let mut all = Vec::new();
    let mut whole = None;
    let proxies = locations.iter().any(|location| matches!(location, Location::Proxy(proxy) if proxy.path.raw == "/"));
    for location in locations {
        let lowered = match location {
            Location::Proxy(proxy) => {
                let lowered = proxy.lower(on, site);
                if proxy.path.raw == "/" {
                    whole = lowered.as_ref().and_then(|lowered| lowered.value.get_attr("proxy").ok());
                }
                lowered
            }
            Location::Root { folder, spa, index } => root(on, folder, *spa, index.as_ref(), proxies),
            Location::Redirect { path, to, code } => redirect(on, path, to, code.as_ref()),
            // Without the proxy these requests would look for files that are not here.
            Location::Expires { extensions, lifetime } => expires(on, site, extensions, lifetime, whole.clone()),
        };
        all.push(lowered);
    }
    all.into_iter().collect()
}

fn root(on: &Lowering<'_>, folder: &Text, spa: bool, index: Option<&Text>, proxied: bool) -> Option<Lowered> {
    let index_name = match index {
        Some(text) => on.parsed(text, "the name of a file", |word| {
            (!word.is_empty() && !word.contains(['/', '$', ';', '{', '}'])).then(|| word.to_string())
        })?,
        None => "index.html".into(),
    };
    let folder_path = value::word(on, folder)?;
    if !folder_path.starts_with('/') {
        on.report(Problem::error(format!("`{folder_path}` is not an absolute path")).at(&folder.span, "here"));
        return None;
    }
    let index = quote(on, index_name, folder)?;
    let fallback = if spa { format!("/{index}") } else { "=404".into() };
    let mut lines = vec![line("root", quote(on, folder_path, folder)?), line("index", index)];
    lines.push(line("try_files", format!("$uri $uri/ {fallback}")));
    // Where `/` is passed on, files are only looked for first.
    let matcher = if proxied { "/files/" } else { "/" };
    let value = context! { match => matcher, lines, proxy => false, headers => Vec::<Value>::new() };
    let route = Route { name: None, path: matcher.into(), to: None, reference: None, span: folder.span.clone() };
    Some(Lowered { value, upgrade: false, cache: false, routes: vec![route] })
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
    let target = quote(on, target, to)?;
    let lines = vec![line("return", format!("{code} {target}"))];
    let value = context! { match => quoted_matcher(&matcher), lines, proxy => false, headers => Vec::<Value>::new() };
    let route = Route { name: None, path: matcher, to: None, reference: None, span: path.span.clone() };
    Some(Lowered { value, upgrade: false, cache: false, routes: vec![route] })
}

fn expires(
    on: &Lowering<'_>,
    site: &Site<'_>,
    extensions: &[Text],
    lifetime: &Text,
    proxy: Option<Value>,
) -> Option<Lowered> {
    let extension = |word: &str| {
        let word = word.strip_prefix('.').unwrap_or(word);
        (!word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric())).then(|| word.to_string())
    };
    let extensions: Option<Vec<String>> =
        extensions.iter().map(|text| on.parsed(text, "a file name extension", extension)).collect();
    let lines = vec![line("expires", time(on, lifetime)?)];
    let headers = repeated(site, &[("Cache-Control".into(), "public, no-transform".into())]);
    let matcher = format!("~* \\.({})$", extensions?.join("|"));
    let value = context! { match => matcher, lines, proxy => proxy.unwrap_or(Value::from(false)), headers };
    Some(Lowered { value, upgrade: false, cache: false, routes: Vec::new() })
}

/// A location with headers of its own loses those of the server block: nginx inherits all or none. So they are repeated.
fn repeated(site: &Site<'_>, own: &[(String, String)]) -> Vec<Value> {
    if own.is_empty() {
        return Vec::new();
    }
    let mut all = site.headers.to_vec();
    own.iter().for_each(|(name, value)| put(&mut all, name.clone(), value.clone()));
    header_values(&all)
}

fn header_values(headers: &[(String, String)]) -> Vec<Value> {
    headers.iter().map(|(name, value)| context! { name, value }).collect()
}

const PATH: &str = "a path such as \"/\", \"/api/\", \"= /exact\" or \"~ ^/regular/\"";

/// Checks what stands after `location`.
fn matcher(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let (kind, path) = word.split_once(' ').unwrap_or(("", word));
    let plain = path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || "\"'\\;{}".contains(c));
    match kind {
        "" if plain => Some(word.to_string()),
        "=" | "^~" if plain => Some(word.to_string()),
        "~" | "~*" if !path.is_empty() => Some(word.to_string()),
        _ => None,
    }
}

/// A regular expression is quoted, so that its braces and semicolons stay in it.
fn quoted_matcher(matcher: &str) -> String {
    match matcher.split_once(' ') {
        // In nginx a backslash before anything but a quote stays as it is.
        Some((kind, expression)) if kind.starts_with('~') => format!("{kind} \"{}\"", expression.replace('"', "\\\"")),
        _ => matcher.to_string(),
    }
}

fn line(key: &str, value: impl Into<String>) -> Value {
    let value: String = value.into();
    context! { key, value }
}

fn quote(on: &Lowering<'_>, word: String, at: &Text) -> Option<String> {
    quote_nginx(&word).map_err(|why| on.report(Problem::error(why).at(&at.span, "here"))).ok()
}

/// A span of time as nginx writes it.
fn time(on: &Lowering<'_>, text: &Text) -> Option<String> {
    let span = value::duration(on, text)?;
    let millis = span.as_millis();
    Some(match millis {
        _ if millis % 86_400_000 == 0 && millis > 0 => format!("{}d", millis / 86_400_000),
        _ if millis % 1000 == 0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    })
}
