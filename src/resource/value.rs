//! Values that several kinds read: words, numbers, spans of time, names that must be harmless.

use std::time::Duration;

use crate::base::decode::Text;
use crate::base::diagnostic::Problem;
use crate::base::template::Rendered;
use crate::resource::lowering::Lowering;

/// A value that stands on one line of a configuration file, where a secret may stand.
pub fn line(on: &Lowering<'_>, text: &Text) -> Option<Rendered> {
    let rendered = on.rendered(text)?;
    if rendered.text.chars().any(|c| c.is_control() && c != '\t') {
        let problem = Problem::error("a value here cannot contain a line break or another control character");
        on.report(problem.at(&text.span, "this value").hint("it stands on one line of a configuration file"));
        return None;
    }
    Some(rendered)
}

/// The same where no secret may stand.
pub fn word(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.text(text)?;
    line(on, text).map(|rendered| rendered.text)
}

/// A span of time.
pub fn duration(on: &Lowering<'_>, text: &Text) -> Option<Duration> {
    on.parsed(text, "a span of time such as `10s`, `500ms` or `1m30s`", parse_duration)
}

/// `10s`, `500ms`, `1m30s`, `2h`, `1d`; at most ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total <= Duration::from_hours(24 * 3660)).then_some(total)
}

/// `8080`, `127.0.0.1:8080` or `[::1]:8080`.
pub fn parse_address(text: &str) -> Option<(Option<String>, u16)> {
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port > 0);
    match text.rsplit_once(':') {
        None => Some((None, port(text)?)),
        Some((host, number)) => {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let clean = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c) || (bracketed && "[]:%".contains(c));
            let address = (host != "*").then(|| host.to_string());
            (!host.is_empty() && host.chars().all(clean)).then_some((address, port(number)?))
        }
    }
}

/// The address to reach a listener at, from the host itself.
pub fn reachable(address: Option<&str>) -> String {
    match address {
        None | Some("0.0.0.0" | "*") => "127.0.0.1".into(),
        Some("[::]" | "::") => "[::1]".into(),
        Some(address) => address.into(),
    }
}

/// A user or group: a name, or a number.
pub fn account(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "the name of a user or group", |word| {
        let clean = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let begins = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        (begins && word.len() <= 32 && word.chars().all(clean)).then(|| word.to_string())
    })
}

/// Permission bits in octal.
pub fn mode(on: &Lowering<'_>, text: &Text) -> Option<u32> {
    on.parsed(text, "a mode such as \"0644\"", |word| {
        let octal = (3..=4).contains(&word.len()) && word.chars().all(|c| ('0'..='7').contains(&c));
        octal.then(|| u32::from_str_radix(word, 8).ok()).flatten()
    })
}

/// A full unit name; `.service` is added where there is no suffix.
pub fn unit_name(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "the name of a systemd unit", full_unit_name)
}

/// The suffixes of units that can be managed.
const SUFFIXES: [&str; 8] = ["service", "socket", "timer", "mount", "automount", "target", "path", "slice"];

/// `go-api` is `go-api.service`; `None` where it cannot be a unit's name.
pub fn full_unit_name(word: &str) -> Option<String> {
    let clean = |c: char| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c);
    let known = word.rsplit_once('.').is_some_and(|(stem, suffix)| !stem.is_empty() && SUFFIXES.contains(&suffix));
    let begins = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins || word.len() > 200 || !word.chars().all(clean) || word.contains("..") {
        return None;
    }
    Some(if known { word.to_string() } else { format!("{word}.service") })
}

/// A signal's name without `SIG`.
pub fn signal(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "a signal such as HUP or USR1", parse_signal)
}

/// The name of a signal that makes sense to send, without `SIG`.
pub fn parse_signal(word: &str) -> Option<String> {
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let known = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH", "CONT", "ALRM"];
    known.contains(&name).then(|| name.to_string())
}

/// A name of a Compose project or service.
pub fn compose_name(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "a Compose name (lower-case letters, digits, `-` and `_`)", |word| {
        is_compose_name(word).then(|| word.to_string())
    })
}

/// Whether `word` can name a Compose project.
pub fn is_compose_name(word: &str) -> bool {
    let clean = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    word.len() <= 63
        && word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && word.chars().all(clean)
}

/// A name of a service in a Compose file.
pub fn service_name(on: &Lowering<'_>, text: &Text) -> Option<String> {
    on.parsed(text, "the name of a Compose service", |word| {
        let clean = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (!word.is_empty() && word.chars().all(clean)).then(|| word.to_string())
    })
}
