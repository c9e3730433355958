//! What a tunnel's own configuration says, checked for what cloudflared refuses.

use std::sync::Arc;

use crate::base::diagnostic::{Problem, Source, Span};
use crate::resource::Route;
use crate::resource::yaml::{self, Node};

/// The rules of a configuration of cloudflared. `instead` is shown in place of places in the text, where the text is the
/// result of a rendering.
pub fn read(source: &Arc<Source>, instead: Option<&Span>) -> Result<Vec<Route>, Box<Problem>> {
    let root = yaml::parse(source, instead)?;
    let place = |node: &Node| instead.cloned().unwrap_or_else(|| Span::new(source, node.offset, node.len));
    let Some(ingress) = root.get("ingress") else {
        return Ok(root
            .get("url")
            .and_then(Node::text)
            .map(|url| route(None, "/", url, place(&root)))
            .into_iter()
            .collect());
    };
    let rules = ingress.items();
    let mut routes = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let text = |key: &str| rule.get(key).and_then(Node::text).filter(|text| !text.is_empty());
        let Some(service) = text("service") else {
            let problem = Problem::error("a rule of this tunnel has no `service`").at(&place(rule), "this rule");
            return Err(Box::new(problem));
        };
        let hostname = text("hostname").filter(|name| *name != "*");
        let all = hostname.is_none() && text("path").is_none();
        let last = at + 1 == rules.len();
        if all && !last {
            let problem = Problem::error("the rules after this one are never reached: cloudflared refuses that");
            return Err(Box::new(problem.at(&place(rule), "this rule takes every request").hint("put it last")));
        }
        if !all && last {
            let problem =
                Problem::error("the last rule of a tunnel must take every request: cloudflared refuses any other");
            return Err(Box::new(problem.at(&place(rule), "the last rule").hint("add `- service: http_status:404`")));
        }
        routes.push(route(hostname, text("path").unwrap_or("/"), service, place(rule)));
    }
    Ok(routes)
}

fn route(name: Option<&str>, path: &str, service: &str, span: Span) -> Route {
    Route { name: name.map(String::from), path: path.into(), to: address(service), reference: None, span }
}

/// Host and port of a service; `None` for a status, a socket and the like.
fn address(service: &str) -> Option<(String, u16)> {
    let (scheme, rest) = service.split_once("://")?;
    let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => Some((host.into(), port.parse().ok()?)),
        _ => match scheme {
            "http" => Some((authority.into(), 80)),
            "https" => Some((authority.into(), 443)),
            "ssh" => Some((authority.into(), 22)),
            _ => None,
        },
    }
}
