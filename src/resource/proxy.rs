//! `proxy`: requests of a site that are passed on.

use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, did_you_mean};
use crate::resource::location::{
    Lowered, PATH, Site, header_values, line, matcher, needs, quoted_matcher, repeated, time,
};
use crate::resource::lowering::Lowering;
use crate::resource::reference::{self, Hop};
use crate::resource::site::variable;
use crate::resource::site_header::{Header, header_name, put};
use crate::resource::{Route, value};

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

impl Proxy {
    /// Reads `proxy "/" to="unit:go-api"`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Box<Self>> {
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

    /// Whether it takes all requests that nothing else takes.
    pub fn is_whole(&self) -> bool {
        self.path.raw == "/"
    }

    /// The location on one host.
    pub fn lower(&self, on: &Lowering<'_>, site: &Site<'_>) -> Option<Lowered> {
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
        Some(Lowered { upgrade: self.websocket, cache: self.cache.is_some(), ..Lowered::new(value, Some(route)) })
    }

    fn hop(&self, on: &Lowering<'_>, site: &Site<'_>) -> Option<Hop> {
        let word = on.text(&self.to)?;
        let Some(name) = word.strip_prefix("pool:") else {
            let mut hop = reference::resolve(on, &self.to)?;
            hop.url = hop.upstream.as_ref().map_or(hop.url, |upstream| format!("http://{upstream}"));
            return Some(hop);
        };
        if let Some(pool) = site.pools.iter().find(|pool| pool.name == name) {
            let url = format!("http://{}", pool.upstream);
            return Some(Hop { url, to: pool.first.clone(), reference: None, upstream: None });
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
            ("X-Forwarded-Proto".into(), site.scheme.into()),
        ];
        if self.websocket {
            headers.push(("Upgrade".into(), "$http_upgrade".into()));
            headers.push(("Connection".into(), format!("${}", variable("connection", site.name))));
        } else {
            headers.push(("Connection".into(), String::new()));
        }
        for (name, text) in &self.set_headers {
            let name = on.parsed(name, "the name of a header", header_name)?;
            put(&mut headers, name, value::word(on, text)?);
        }
        Some(headers)
    }
}
