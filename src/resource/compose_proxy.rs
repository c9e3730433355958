//! Whom a proxy in a Compose project sends requests to: read from the nginx files that its services mount.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;

use crate::base::diagnostic::{Problem, Span, did_you_mean};
use crate::resource::compose_file::{Named, Networks, Service};
use crate::resource::compose_whole::Whole;
use crate::resource::lowering::Lowering;
use crate::resource::nginx::{self, Directive};

/// Warns of requests that are sent to a service that is not there, or to one that shares no network with the proxy:
/// nginx would not even start.
pub fn check(whole: &Whole, active: &[&Service], project: &str, on: &Lowering<'_>, origin: &Span) {
    for service in active {
        let mounted = service.mounts.items.iter().filter_map(Named::path);
        let files: Vec<&Utf8PathBuf> = mounted.flat_map(|path| files_at(on, path)).collect();
        for path in files.into_iter().filter(|path| path.extension() == Some("conf")) {
            let Some(source) = on.source(path, origin) else { continue };
            let Ok(directives) = nginx::parse(&source.text) else { continue };
            let mut targets = Targets::default();
            targets.collect(&directives);
            for (name, offset, len) in &targets.sent {
                if !targets.upstreams.contains(name) && is_plain(name) {
                    judge(whole, service, project, on, name, &Span::new(&source, *offset, *len));
                }
            }
        }
    }
}

/// A file that is mounted, or all files of a folder that is.
fn files_at<'a>(on: &Lowering<'a>, path: Utf8PathBuf) -> impl Iterator<Item = &'a Utf8PathBuf> {
    let from = on.files.range(path.clone()..).map(|(file, _)| file);
    let until = path.clone();
    from.take_while(move |file| file.as_str().starts_with(until.as_str())).filter(move |file| file.starts_with(&path))
}

fn judge(whole: &Whole, from: &Service, project: &str, on: &Lowering<'_>, name: &str, span: &Span) {
    let Networks::Named(networks) = &from.networks else { return };
    // In a network that is not the project's own, anybody may be called anything.
    if from.names.iter().any(|known| known == name) || networks.iter().any(|network| whole.is_external(network)) {
        return;
    }
    let called = |service: &&Service| service.name == name || service.names.iter().any(|known| known == name);
    let found: Vec<&Service> = whole.services.values().filter(called).collect();
    if found.is_empty() {
        let problem = Problem::warning(format!("no service of `compose:{project}` is called `{name}`"));
        let problem = problem.at(span, "requests are sent there");
        on.report(match did_you_mean(name, whole.services.keys().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("containers reach each other by the names of their services"),
        });
        return;
    }
    let reached = |service: &&Service| match &service.networks {
        Networks::Named(others) => others.iter().any(|other| networks.contains(other)),
        Networks::Other => true,
    };
    if !found.iter().any(reached) {
        let problem = Problem::warning(format!("`{}` shares no network with `{name}`", from.name));
        let problem = problem.at(span, "requests are sent there");
        on.report(problem.hint("put both on one network, with `networks:` at each of them"));
    }
}

/// A name that only Docker can resolve: no address, no domain, no variable.
fn is_plain(name: &str) -> bool {
    name != "localhost" && !name.is_empty() && !name.contains(['.', '$', ':', '['])
}

#[derive(Default)]
struct Targets {
    upstreams: BTreeSet<String>,
    sent: Vec<(String, usize, usize)>,
}

impl Targets {
    fn collect(&mut self, directives: &[Directive]) {
        for directive in directives {
            let first = directive.args.first().map_or("", String::as_str);
            let mut add = |target: &str| {
                let name = target.split(['/', ':']).next().unwrap_or_default().to_string();
                self.sent.push((name, directive.offset, directive.len));
            };
            match directive.name.as_str() {
                "proxy_pass" => add(first.split_once("://").map_or(first, |(_, rest)| rest)),
                // A name in a variable is asked for anew with each request.
                "set" => {
                    let value = directive.args.get(1).map_or("", String::as_str);
                    let is_target = value.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                    if is_target {
                        add(value);
                    }
                }
                "fastcgi_pass" | "uwsgi_pass" | "grpc_pass" => add(first.trim_start_matches("grpc://")),
                "upstream" => {
                    self.upstreams.insert(first.to_string());
                    let servers = directive.block.iter().flatten().filter(|inner| inner.name == "server");
                    for server in servers {
                        let target = server.args.first().map_or("", String::as_str);
                        let name = target.split(':').next().unwrap_or_default().to_string();
                        self.sent.push((name, server.offset, server.len));
                    }
                    continue;
                }
                _ => {}
            }
            self.collect(directive.block.as_deref().unwrap_or_default());
        }
    }
}
