//! `health`: how one sees that something works.

use std::time::Duration;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::resource::lowering::Lowering;
use crate::resource::{Check, Patience, Probe, value};

/// How long a check may take where nothing is said.
pub const WITHIN: Duration = Duration::from_secs(10);

/// How long a unit must stay active where nothing is said.
pub const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// How often something may be started again by itself before that counts as a crash loop, where nothing is said: a first
/// start may come too early for what it needs.
pub const RESTARTS: u32 = 2;

/// One check as a stack describes it.
#[derive(Debug, Clone)]
pub struct Health {
    what: What,
    within: Option<Text>,
    steady: Option<Text>,
    restarts: Option<Text>,
}

/// How what is said of health is to be taken.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Within what time it should be seen to work, where that is said.
    pub within: Option<Duration>,
    /// How long it must go on, where that is said.
    pub steady: Option<Duration>,
    /// How often it may be started again meanwhile.
    pub restarts: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { within: None, steady: None, restarts: RESTARTS }
    }
}

impl Terms {
    /// The patience with something that must go on for so long where nothing is said. It never takes longer than it may.
    pub fn patience(&self, steady: Duration) -> Patience {
        let steady = self.steady.unwrap_or_else(|| self.within.map_or(steady, |within| steady.min(within)));
        Patience { steady, restarts: self.restarts }
    }
}

#[derive(Debug, Clone)]
enum What {
    Http(Text, Option<Text>),
    Tcp(Text),
    Command(Vec<Text>),
    /// Only times: for what is checked anyhow.
    Terms,
}

impl Health {
    /// Reads all `health` nodes.
    pub fn decode_all(reader: &mut Reader<'_>) -> Vec<Self> {
        reader.children("health").into_iter().filter_map(Health::decode).collect()
    }

    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let within = reader.value("within");
        let (steady, restarts) = (reader.value("steady"), reader.value("restarts"));
        let (http, host) = (reader.value("http"), reader.value("host"));
        let tcp = reader.value("tcp");
        let command = reader.value("command");
        let args = if command.is_some() { reader.args() } else { Vec::new() };
        let what = match (http, tcp, command) {
            (Some(url), None, None) => Some(What::Http(url, host)),
            (None, Some(at), None) => Some(What::Tcp(at)),
            (None, None, Some(program)) => Some(What::Command(std::iter::once(program).chain(args).collect())),
            (None, None, None) if within.is_some() || steady.is_some() || restarts.is_some() => Some(What::Terms),
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
        Some(Health { what: what?, within, steady, restarts })
    }

    /// The check on one host; `base` is the address that a relative URL or a bare port is meant for.
    pub fn lower(&self, on: &Lowering<'_>, base: Option<&(String, u16)>, host: Option<&str>) -> Option<Check> {
        let within = self.within.as_ref().map_or(Some(WITHIN), |text| value::duration(on, text))?;
        let probe = match &self.what {
            What::Terms => return None,
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

/// The checks of a resource, and on what terms anything else about it should be seen to work.
pub fn lower_all(
    healths: &[Health],
    on: &Lowering<'_>,
    base: Option<&(String, u16)>,
    host: Option<&str>,
) -> (Vec<Check>, Terms) {
    let checks = healths.iter().filter_map(|health| health.lower(on, base, host)).collect();
    let longest = |of: fn(&Health) -> Option<&Text>| {
        healths.iter().filter_map(of).filter_map(|text| value::duration(on, text)).max()
    };
    let often = |text: &Text| on.parsed(text, "how often it may be started again, such as 5", |word| word.parse().ok());
    let restarts = healths.iter().filter_map(|health| health.restarts.as_ref()).filter_map(often).max();
    let terms = Terms {
        within: longest(|health| health.within.as_ref()),
        steady: longest(|health| health.steady.as_ref()),
        restarts: restarts.unwrap_or(RESTARTS),
    };
    (checks, terms)
}

/// That a unit is active and stays so.
pub fn active(unit: String, terms: &Terms) -> Check {
    let patience = terms.patience(HALF_A_SECOND);
    Check { probe: Probe::Active { unit, patience }, within: terms.within.unwrap_or(WITHIN).max(patience.steady) }
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
