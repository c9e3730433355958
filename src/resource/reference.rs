//! What `to="…"` means: a URL, or another resource of the same host.

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, did_you_mean};
use crate::base::id::{Kind, ResourceId};
use crate::resource::lowering::Lowering;
use crate::resource::value;

/// Where requests are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The URL to send them to, without a trailing slash where none was written.
    pub url: String,
    /// Address and port.
    pub to: Option<(String, u16)>,
    /// The resource it was written as.
    pub reference: Option<ResourceId>,
    /// What nginx calls it, where it has two places and only nginx knows which of them it is.
    pub upstream: Option<String>,
}

/// Resolves a text of a stack. Reports what is wrong with it.
pub fn resolve(on: &Lowering<'_>, text: &Text) -> Option<Hop> {
    let word = value::word(on, text)?;
    if word.starts_with("http://") || word.starts_with("https://") {
        return url(&word).or_else(|| {
            on.report(Problem::error(format!("`{word}` is not a URL to send requests to")).at(&text.span, "here"));
            None
        });
    }
    let Ok(id) = word.parse::<ResourceId>() else {
        let problem = Problem::error(format!("`{word}` is neither a URL nor a resource")).at(&text.span, "here");
        let is_address = word.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        on.report(problem.hint(if is_address {
            format!("write `http://{word}`")
        } else {
            "write `unit:name`, `compose:project/service`, `site:name`, `pool:name` or `http://127.0.0.1:8080`".into()
        }));
        return None;
    };
    let Some((host, port)) = on.endpoint(&id) else {
        // What cannot be read has been reported for itself.
        if !on.unread.contains(&id.kind) {
            on.report(unknown(on, &id).at(&text.span, "named here"));
        }
        return None;
    };
    let upstream = on.upstreams.get(&id).cloned();
    let url = format!("http://{host}:{port}");
    Some(Hop { url, to: Some((host, port)), reference: Some(resource_of(id)), upstream })
}

/// `compose:app/web` is a service of the resource `compose:app`.
fn resource_of(id: ResourceId) -> ResourceId {
    match (id.kind, id.name.split_once('/')) {
        (Kind::Compose, Some((project, _))) => ResourceId::new(Kind::Compose, project),
        _ => id,
    }
}

fn unknown(on: &Lowering<'_>, id: &ResourceId) -> Problem {
    let problem = Problem::error(format!("nothing is known to listen as `{id}`"));
    let known: Vec<String> = on.ports.keys().map(ToString::to_string).collect();
    match did_you_mean(&id.to_string(), known.iter().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if id.kind == Kind::Unit => {
            problem.hint(format!("the unit must be on the same host, `{}`, and say `listen 8080`", on.host))
        }
        None if id.kind == Kind::Compose => {
            problem.hint("name a service that publishes a port: `compose:project/service`")
        }
        None => problem.hint("only units, sites and Compose services listen"),
    }
}

/// `http://host[:port][/path]`.
fn url(word: &str) -> Option<Hop> {
    let (scheme, rest) = word.split_once("://")?;
    let clean = |c: char| c.is_ascii_graphic() && !"\"'\\;{}<>^`|".contains(c);
    if !rest.chars().all(clean) {
        return None;
    }
    let authority = rest.split('/').next()?;
    let default = if scheme == "https" { 443 } else { 80 };
    let bare_v6 = authority.ends_with(']');
    let to = match authority.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host.to_string(), port.parse().ok().filter(|port| *port > 0)?),
        _ => (authority.to_string(), default),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "._-[]:".contains(c);
    let good = !to.0.is_empty() && to.0.chars().all(name);
    good.then(|| Hop { url: word.to_string(), to: Some(to), reference: None, upstream: None })
}
