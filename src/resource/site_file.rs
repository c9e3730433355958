//! What a site's own nginx file says about names, ports and the way of requests.

use std::sync::Arc;

use crate::base::diagnostic::{Problem, Source, Span};
use crate::resource::nginx::{self, Directive};
use crate::resource::{Listen, Route, Wiring, value};

/// Text of nginx configuration and where it is from.
pub struct NginxText<'a> {
    text: &'a str,
    /// The file that this is as it stands, so that places in the text are places in the file.
    source: Option<Arc<Source>>,
    /// The line of the stack that uses it.
    used: Span,
}

impl<'a> NginxText<'a> {
    /// The text that the line at `used` stands for, which is that of `source` if it is a file as it stands.
    pub fn new(text: &'a str, source: Option<Arc<Source>>, used: &Span) -> Self {
        NginxText { text, source, used: used.clone() }
    }

    fn place(&self, offset: usize, len: usize) -> Span {
        match &self.source {
            Some(source) => Span::new(source, offset, len),
            None => self.used.clone(),
        }
    }

    /// Its directives, or what is wrong with its form.
    pub fn parse(&self) -> Result<Vec<Directive>, Problem> {
        nginx::parse(self.text).map_err(|mistake| {
            let line = self.text.get(..mistake.offset).unwrap_or(self.text).matches('\n').count() + 1;
            let more = if self.source.is_some() { String::new() } else { format!(" (line {line} of the text)") };
            Problem::error(format!("not valid for nginx: {}{more}", mistake.message))
                .at(&self.place(mistake.offset, mistake.len), "here")
        })
    }

    /// The wiring of all servers in it.
    pub fn wiring(&self, directives: &[Directive]) -> Wiring {
        let mut wiring = Wiring::default();
        for server in directives.iter().filter(|directive| directive.name == "server") {
            let block = server.block.as_deref().unwrap_or_default();
            self.server(block, directives, &mut wiring);
        }
        wiring
    }

    fn server(&self, block: &[Directive], top: &[Directive], wiring: &mut Wiring) {
        let before = wiring.serves.len();
        for directive in block {
            let span = self.place(directive.offset, directive.len);
            match directive.name.as_str() {
                "listen" => wiring.listens.extend(listen(directive, span)),
                "server_name" => {
                    let names = directive.args.iter().filter(|name| is_name(name));
                    wiring.serves.extend(names.map(|name| (name.clone(), span.clone())));
                }
                _ => {}
            }
        }
        if !block.iter().any(|directive| directive.name == "listen") {
            let span = self.used.clone();
            wiring.listens.push(Listen { address: None, port: 80, container_port: None, image: None, span });
        }
        let names: Vec<String> = wiring.serves[before..].iter().map(|(name, _)| name.clone()).collect();
        for location in block.iter().filter(|directive| directive.name == "location") {
            self.location(location, top, &names, wiring);
        }
    }

    fn location(&self, location: &Directive, top: &[Directive], names: &[String], wiring: &mut Wiring) {
        let block = location.block.as_deref().unwrap_or_default();
        let pass = block.iter().find(|directive| directive.name == "proxy_pass");
        let (at, to) = match pass {
            // What a variable will hold is not known.
            Some(pass) if pass.args.iter().any(|arg| arg.contains('$')) => return,
            Some(pass) => (pass, pass.args.first().and_then(|url| address(url, top))),
            None => (location, None),
        };
        let path = location.args.join(" ");
        let of: Vec<Option<String>> =
            if names.is_empty() { vec![None] } else { names.iter().cloned().map(Some).collect() };
        for name in of {
            let span = self.place(at.offset, at.len);
            wiring.routes.push(Route { name, path: path.clone(), to: to.clone(), reference: None, span });
        }
    }
}

fn listen(directive: &Directive, span: Span) -> Option<Listen> {
    let word = directive.args.first()?;
    let (address, port) = match value::parse_address(word) {
        Some(found) => found,
        // An address without a port means port 80.
        None if !word.starts_with("unix:") && !word.contains('$') => (Some(word.clone()), 80),
        None => return None,
    };
    Some(Listen { address, port, container_port: None, image: None, span })
}

/// Host and port of a `proxy_pass`; the first server, where it names an `upstream` of the same file.
fn address(url: &str, top: &[Directive]) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let upstream = top
        .iter()
        .find(|directive| directive.name == "upstream" && directive.args.first().is_some_and(|name| name == authority));
    if let Some(upstream) = upstream {
        let servers = upstream.block.as_deref().unwrap_or_default();
        let first = servers.iter().find(|directive| directive.name == "server")?.args.first()?;
        return host_port(first, 80);
    }
    host_port(authority, if scheme == "https" { 443 } else { 80 })
}

fn host_port(word: &str, default: u16) -> Option<(String, u16)> {
    match word.rsplit_once(':') {
        Some((host, port)) if !word.ends_with(']') => Some((host.to_string(), port.parse().ok()?)),
        _ if word.is_empty() => None,
        _ => Some((word.to_string(), default)),
    }
}

/// Neither the catch-all `_` and `""` nor a regular expression.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "_" && !name.starts_with('~') && !name.contains('$')
}
