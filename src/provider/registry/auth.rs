//! Who we are, where a registry asks: basic, or a token from the place it names.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;

use crate::base::secret::Secret;
use crate::provider::registry::{Fault, Repository};

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token.
    Bearer {
        /// Where there are tokens.
        realm: String,
        /// What to say there, as names and values.
        with: Vec<(String, String)>,
    },
}

impl Challenge {
    /// Of what a registry offers, the best: a token.
    pub(super) fn strongest<'a>(said: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for said in said {
            match Challenge::parse(said) {
                Some(Challenge::Basic) => basic = Some(Challenge::Basic),
                Some(bearer) => return Some(bearer),
                None => {}
            }
        }
        basic
    }

    fn parse(said: &str) -> Option<Challenge> {
        let (scheme, rest) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (realm, with) = parameters(rest).into_iter().partition::<Vec<_>, _>(|(name, _)| name == "realm");
        Some(Challenge::Bearer { realm: realm.into_iter().next()?.1, with })
    }
}

/// `a="b c",d=e` as names and values.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name.trim_matches([',', ' ']).to_ascii_lowercase(), value.trim().to_string()));
        rest = after;
    }
    found
}

/// What we say of ourselves, once it is known.
#[derive(Default)]
pub(super) struct Authority(Mutex<Option<Secret>>);

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authority {
    /// What was said last.
    pub(super) fn known(&self) -> Option<Secret> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to say to a challenge; nothing where we have nothing to say.
    pub(super) async fn answer(&self, challenge: &Challenge, to: &Repository) -> Result<Option<Secret>, Fault> {
        let word = match challenge {
            Challenge::Basic => basic(to),
            Challenge::Bearer { realm, with } => Some(token(realm, with, to).await?),
        };
        if let Some(word) = &word {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(word.clone());
        }
        Ok(word)
    }
}

fn basic(to: &Repository) -> Option<Secret> {
    let (user, password) = to.access.login.as_ref()?;
    let both = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
    Some(Secret::new(format!("Basic {}", STANDARD.encode(both.as_bytes()))))
}

async fn token(realm: &str, with: &[(String, String)], to: &Repository) -> Result<Secret, Fault> {
    let mut query: Vec<String> = Vec::new();
    for (name, value) in with.iter().filter(|(name, _)| name == "service" || name == "scope") {
        query.push(format!("{name}={}", encoded(value)));
    }
    if !with.iter().any(|(name, _)| name == "scope") {
        query.push(format!("scope={}", encoded(&format!("repository:{}:pull", to.reference.repository))));
    }
    let mark = if realm.contains('?') { '&' } else { '?' };
    let uri: Uri = format!("{realm}{mark}{}", query.join("&"))
        .parse()
        .map_err(|_| Fault::Odd(format!("`{}` is no place for tokens", realm.escape_debug())))?;
    let secure = uri.scheme_str() == Some("https") || (to.access.plain_http && uri.scheme_str() == Some("http"));
    if !secure {
        return Err(Fault::Odd(format!("it sends us to `{}` for a token, which is not https", realm.escape_debug())));
    }
    let answer = to.send(&Method::GET, &uri, HeaderMap::new(), basic(to).as_ref()).await?;
    match answer.status {
        StatusCode::OK => {}
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Err(Fault::Down(format!("its place for tokens answers {status}")));
        }
        _ => return Err(Fault::Denied),
    }
    let token: Option<Token> = serde_json::from_slice(&answer.body).ok();
    let token = token.and_then(|token| token.token.or(token.access_token));
    let token = token.ok_or_else(|| Fault::Odd("its place for tokens gives none".into()))?;
    Ok(Secret::new(format!("Bearer {token}")))
}

/// A value as part of a query.
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let said = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let read = Challenge::strongest([r#"Basic realm="x, y""#, said].into_iter()).expect("one of them");
        let Challenge::Bearer { realm, with } = read else { panic!("{read:?}") };
        assert_eq!(realm, "https://auth.docker.io/token");
        let with: Vec<(&str, &str)> = with.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(with, [("service", "registry.docker.io"), ("scope", "repository:a/b:pull,push")]);
        assert_eq!(Challenge::strongest(["BASIC realm=x", "Negotiate"].into_iter()), Some(Challenge::Basic));
        assert_eq!(Challenge::strongest(["Bearer service=x", "Digest"].into_iter()), None);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
