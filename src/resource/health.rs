//! `health`: how one sees that something works.

use std::time::Duration;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::resource::lowering::Lowering;
use crate::resource::{Check, Probe, value};

/// How long a check may take where nothing is said.
pub const WITHIN: Duration = Duration::from_secs(10);

/// One check as a stack describes it.
#[derive(Debug, Clone)]
pub struct Health {
    what: What,
    within: Option<Text>,
}

#[derive(Debug, Clone)]
enum What {
    Http(Text, Option<Text>),
    Tcp(Text),
    Command(Vec<Text>),
    /// Only a time: for what is checked anyhow.
    Within,
}

impl Health {
    /// Reads all `health` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        reader.children("health").into_iter().filter_map(Health::decode).collect()
    }

    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let within = reader.value("within");
        let (http, host) = (reader.value("http"), reader.value("host"));
        let tcp = reader.value("tcp");
        let command = reader.value("command");
        let args = if command.is_some() { reader.args() } else { Vec::new() };
        let what = match (http, tcp, command) {
            (Some(url), None, None) => Some(What::Http(url, host)),
            (None, Some(at), None) => Some(What::Tcp(at)),
            (None, None, Some(program)) => Some(What::Command(std::iter::once(program).chain(args).collect())),
            (None, None, None) if within.is_some() => Some(What::Within),
            _ => {
                let problem =
                    Problem::error("`health` does not say one clear thing to check").at(&reader.span(), "here");
                reader.report(
                    problem.hint("write one of `http=\"/health\"`, `tcp=8080` and `command=\"program\" \"argument\"`"),
                );
                None
            }
        };
        reader.finish();
        Some(Health { what: what?, within })
    }

    /// Whether it says nothing but a time.
    pub fn is_time_alone(&self) -> bool {
        matches!(self.what, What::Within)
    }

    /// How long it may take.
    pub fn within(&self, on: &Lowering<'_>) -> Option<Duration> {
        self.within.as_ref().map_or(Some(WITHIN), |text| value::duration(on, text))
    }

    /// The check on one host; `base` is the address that a relative URL or a bare port is meant for.
    pub fn lower(&self, on: &Lowering<'_>, base: Option<&(String, u16)>, host: Option<&str>) -> Option<Check> {
        let within = self.within(on)?;
        let probe = match &self.what {
            What::Within => return None,
            What::Http(url, given) => {
                let host = match given {
                    Some(text) => Some(value::word(on, text)?),
                    None => host.map(str::to_string),
                };
                Probe::Http { url: url_of(on, url, base)?, host }
            }
            What::Tcp(at) => {
                let what = "a port, or an address such as 127.0.0.1:8080";
                let (address, port) = on.parsed(at, what, value::parse_address)?;
                Probe::Tcp { host: value::reachable(address.as_deref()), port }
            }
            What::Command(words) => {
                Probe::Command(words.iter().map(|word| value::word(on, word)).collect::<Option<_>>()?)
            }
        };
        Some(Check { probe, within })
    }
}

/// The checks of a resource, and within what time anything else about it should be seen to work.
pub fn lower_all(
    healths: &[Health],
    on: &Lowering<'_>,
    base: Option<&(String, u16)>,
    host: Option<&str>,
) -> (Vec<Check>, Duration) {
    let checks = healths.iter().filter_map(|health| health.lower(on, base, host)).collect();
    let within = healths.iter().filter_map(|health| health.within(on)).max().unwrap_or(WITHIN);
    (checks, within)
}

fn url_of(on: &Lowering<'_>, text: &Text, base: Option<&(String, u16)>) -> Option<String> {
    let url = value::word(on, text)?;
    let clean = !url.contains(|c: char| c.is_whitespace() || "\"'<>\\^`{|}".contains(c));
    if !clean {
        let problem = Problem::error(format!("`{url}` is not a URL")).at(&text.span, "here");
        on.report(problem.hint("spaces and quotes are written in percent encoding"));
        return None;
    }
    if url.starts_with("http://") {
        return Some(url);
    }
    let problem = match (url.starts_with('/'), base) {
        (true, Some((host, port))) => return Some(format!("http://{host}:{port}{url}")),
        (true, None) => Problem::error("this check has only a path, and nothing says which port it is for")
            .hint("add `listen 8080`, or write the whole URL"),
        (false, _) => Problem::error(format!("`{url}` is not a URL that can be checked"))
            .hint("a path such as \"/health\", or a URL that begins with http://"),
    };
    on.report(problem.at(&text.span, "here"));
    None
}
