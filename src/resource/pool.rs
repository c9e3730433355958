//! `pool`: servers that share the work of a site.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use minijinja::{Value, context};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, did_you_mean};
use crate::base::id::HostName;
use crate::resource::location::{needs, time};
use crate::resource::lowering::Lowering;
use crate::resource::site::variable;
use crate::resource::site_header::header_name;
use crate::resource::value;

/// A group of servers that share the work.
#[derive(Debug, Clone)]
pub struct Pool {
    name: Text,
    servers: Vec<Server>,
    drain: Option<Text>,
}

#[derive(Debug, Clone)]
struct Server {
    at: At,
    weight: Option<Text>,
    max_fails: Option<Text>,
    fail_timeout: Option<Text>,
    backup: bool,
}

/// Where servers are.
#[derive(Debug, Clone)]
enum At {
    /// One, there.
    Address(Text),
    /// One on each host with a tag.
    Tag {
        tag: Text,
        port: Text,
        /// The variable of the host that says its address, where it is not the one that reconcile uses.
        var: Option<Text>,
    },
}

/// An address, and the host of the repository that it belongs to.
type Place = ((String, u16), Option<HostName>);

/// A host of the repository, as others see it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: HostName,
    /// Where it is reached.
    pub address: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its variables.
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// A pool whose servers are taken out of it while they are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the stack.
    pub pool: String,
    /// Its name in nginx.
    pub name: String,
    /// The file it is in.
    pub path: Utf8PathBuf,
    /// How long requests may take to end.
    pub wait: Duration,
    /// How many servers it has.
    pub servers: usize,
    /// Those of them that are hosts of the repository.
    pub members: Vec<(HostName, String)>,
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
    /// Those of them that are hosts of the repository.
    members: Vec<(HostName, String)>,
    /// How long requests may take to end, where servers are taken out of it.
    drain: Option<Duration>,
}

/// A server on one host: its line, where it is, and which host that is.
struct LoweredServer {
    line: String,
    at: (String, u16),
    host: Option<HostName>,
}

impl LoweredPool {
    /// For the template.
    pub fn value(&self) -> Value {
        context! { name => self.upstream.clone(), servers => self.servers.clone() }
    }

    /// What is to be known to take servers out of it, where that is done.
    pub fn upstream(&self, path: &Utf8Path) -> Option<Upstream> {
        Some(Upstream {
            pool: self.name.clone(),
            name: self.upstream.clone(),
            path: path.to_owned(),
            wait: self.drain?,
            servers: self.servers.len(),
            members: self.members.clone(),
        })
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
        let drain = reader.value("drain");
        reader.finish();
        Some(Pool { name: name?, servers, drain })
    }

    /// Whether its servers are taken out of it while they are changed.
    pub fn drains(&self) -> bool {
        self.drain.is_some()
    }

    /// The pool on one host, for one site.
    pub fn lower(&self, on: &Lowering<'_>, site: &str) -> Option<LoweredPool> {
        let name = on.parsed(&self.name, "the name of a pool (letters, digits, `-` and `_`)", header_name)?;
        let servers: Vec<Vec<LoweredServer>> =
            self.servers.iter().map(|server| server.lower(on)).collect::<Option<_>>()?;
        let servers: Vec<LoweredServer> = servers.into_iter().flatten().collect();
        let drain = match &self.drain {
            Some(text) => Some(value::duration(on, text)?),
            None => None,
        };
        let member = |server: &LoweredServer| Some((server.host.clone()?, address(&server.at)));
        let upstream = variable(&name, site);
        Some(LoweredPool {
            name,
            upstream,
            first: servers.first().map(|server| server.at.clone()),
            members: servers.iter().filter_map(member).collect(),
            servers: servers.into_iter().map(|server| server.line).collect(),
            drain,
        })
    }
}

impl Server {
    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let at = match reader.value("tag") {
            Some(tag) => {
                let (port, var) = (reader.value("port"), reader.value("var"));
                needs(&reader, "port", port.as_ref());
                port.map(|port| At::Tag { tag, port, var })
            }
            None => reader.required("an address with a port, or `tag` and `port`").map(At::Address),
        };
        let server = Server {
            weight: reader.value("weight"),
            max_fails: reader.value("max-fails"),
            fail_timeout: reader.value("fail-timeout"),
            backup: reader.flag("backup").unwrap_or(false),
            at: at?,
        };
        reader.finish();
        Some(server)
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<Vec<LoweredServer>> {
        let mut settings = String::new();
        let number = |word: &str| word.parse::<u32>().ok();
        if let Some(text) = &self.weight {
            settings.extend([" weight=", &on.parsed(text, "a number", number)?.to_string()]);
        }
        if let Some(text) = &self.max_fails {
            settings.extend([" max_fails=", &on.parsed(text, "a number", number)?.to_string()]);
        }
        if let Some(text) = &self.fail_timeout {
            settings.extend([" fail_timeout=", &time(on, text)?]);
        }
        if self.backup {
            settings += " backup";
        }
        let places = self.at.lower(on)?.into_iter();
        Some(places.map(|(at, host)| LoweredServer { line: address(&at) + &settings, at, host }).collect())
    }
}

impl At {
    /// The places, and which hosts they are on.
    fn lower(&self, on: &Lowering<'_>) -> Option<Vec<Place>> {
        let what = "an address with a port, such as 10.0.0.1:8080";
        let (tag, port, var) = match self {
            At::Tag { tag, port, var } => (tag, port, var),
            At::Address(text) => {
                let at = on.parsed(text, what, |word| {
                    let (host, port) = value::parse_address(word)?;
                    Some((host?, port))
                })?;
                let peer = on.peers.iter().find(|peer| peer.address == at.0.trim_matches(['[', ']']));
                return Some(vec![(at, peer.map(|peer| peer.name.clone()))]);
            }
        };
        let (name, port) = (on.text(tag)?, on.parsed(port, "a port", |word| word.parse::<u16>().ok())?);
        let peers: Vec<&Peer> = on.peers.iter().filter(|peer| peer.tags.contains(&name)).collect();
        if peers.is_empty() {
            let problem = Problem::error(format!("no host has the tag `{}`", name.escape_debug()));
            let known = on.peers.iter().flat_map(|peer| peer.tags.iter().map(String::as_str));
            let near = did_you_mean(&name, known).map(|near| format!("did you mean `{near}`?"));
            let hint = near.unwrap_or_else(|| "a pool needs at least one server".into());
            on.report(problem.at(&tag.span, "here").hint(hint));
            return None;
        }
        let found =
            peers.into_iter().map(|peer| Some(((peer.seen(on, tag, var.as_ref())?, port), Some(peer.name.clone()))));
        found.collect()
    }
}

impl Peer {
    /// Its address, for others.
    fn seen(&self, on: &Lowering<'_>, tag: &Text, var: Option<&Text>) -> Option<String> {
        let address = match var {
            Some(text) => {
                let name = on.text(text)?;
                let Some(address) = self.vars.get(&name).and_then(|value| value.as_str()) else {
                    let problem = Problem::error(format!("host {} has no text as variable `{name}`", self.name));
                    on.report(problem.at(&text.span, "here").hint("give it one, or leave `var` out"));
                    return None;
                };
                address.to_string()
            }
            None => self.address.clone(),
        };
        let bare = address.contains(':') && !address.starts_with('[');
        let address = if bare { format!("[{address}]") } else { address };
        if value::parse_address(&format!("{address}:80")).is_none_or(|(host, _)| host.is_none()) {
            let problem =
                Problem::error(format!("the address of host {} cannot stand in a pool: {address}", self.name));
            on.report(problem.at(&tag.span, "here").hint("name a variable that has another one: `var=\"private\"`"));
            return None;
        }
        Some(address)
    }
}

/// `10.0.0.1:8080`.
fn address((host, port): &(String, u16)) -> String {
    format!("{host}:{port}")
}
