//! `pool`: servers that share the work of a site.

use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::resource::location::time;
use crate::resource::lowering::Lowering;
use crate::resource::site::variable;
use crate::resource::site_header::header_name;
use crate::resource::value;

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
    pub name: String,
    /// Its name in nginx, which all sites share.
    pub upstream: String,
    /// The arguments of the `server` directives.
    servers: Vec<String>,
    /// The first of them.
    pub first: Option<(String, u16)>,
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
            line.extend([" weight=", &on.parsed(text, "a number", number)?.to_string()]);
        }
        if let Some(text) = &self.max_fails {
            line.extend([" max_fails=", &on.parsed(text, "a number", number)?.to_string()]);
        }
        if let Some(text) = &self.fail_timeout {
            line.extend([" fail_timeout=", &time(on, text)?]);
        }
        if self.backup {
            line += " backup";
        }
        Some((line, at))
    }
}
