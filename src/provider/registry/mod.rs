//! A container registry, as the OCI distribution specification has it: tags to digests, and what an image weighs.
//!
//! Only reads. Every answer has a deadline, and a registry that is busy or down is asked again, a few times.

mod auth;
mod manifest;
#[cfg(test)]
mod tests;
pub mod version;

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, LINK, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use sha2::{Digest as _, Sha256};

use crate::base::secret::Secret;
use crate::provider::http::{Answer, Http};
use crate::provider::reference::{Reference, is_digest};
use auth::{Authority, Challenge};
use manifest::Entry;
pub use manifest::Layer;

/// How a registry is reached, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// User and password, or user and token.
    pub login: Option<(String, Secret)>,
    /// Without TLS.
    pub plain_http: bool,
    /// The only authorities to trust, as PEM; the system's where there are none.
    pub ca: Option<Arc<[u8]>>,
}

/// Why a registry did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has no such thing.
    Missing,
    /// It does not let us have it.
    Denied,
    /// It cannot be reached, or is busy or broken, and why. Trying later may help.
    Down(String),
    /// What it says makes no sense.
    Odd(String),
    /// None of its tags is a version in the range, of so many.
    Version(usize),
    /// There is no image for this platform, but for these.
    Platform(Vec<String>),
}

/// How patient we are.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one answer may take.
    pub answer: Duration,
    /// How often to ask in all.
    pub tries: u32,
    /// How long to wait before the second time; twice as long before each further time.
    pub pause: Duration,
    /// The longest pause that a registry may ask for.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            answer: Duration::from_secs(10),
            tries: 4,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(10),
        }
    }
}

/// One repository of a registry.
pub struct Repository {
    http: Http,
    reference: Reference,
    access: Access,
    authority: Authority,
    patience: Patience,
}

/// The forms in which a manifest may come.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// How many pages a list of tags may have, of a thousand tags each.
const PAGES: usize = 50;
/// How often one may be sent elsewhere.
const REDIRECTS: usize = 5;

impl Repository {
    /// The repository that `reference` is in.
    pub fn new(reference: &Reference, access: &Access, patience: Patience) -> Result<Repository, Fault> {
        let http = Http::new(access.ca.as_deref()).map_err(|why| Fault::Odd(format!("its `ca` is unusable: {why}")))?;
        let (reference, access) = (reference.clone(), access.clone());
        Ok(Repository { http, reference, access, authority: Authority::default(), patience })
    }

    /// The digest that a tag has now.
    pub async fn digest(&self, tag: &str) -> Result<String, Fault> {
        let answer = self.ask(&Method::HEAD, &self.uri(&format!("manifests/{tag}"))?).await?;
        let named = answer.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        match named {
            Some(digest) if is_digest(digest) => Ok(digest.to_string()),
            Some(odd) => Err(Fault::Odd(format!("it gives `{}` as a digest", odd.escape_debug()))),
            // A few registries tell no digest: then it is that of the text itself.
            None => Ok(digest_of(&self.ask(&Method::GET, &self.uri(&format!("manifests/{tag}"))?).await?.body)),
        }
    }

    /// All tags.
    pub async fn tags(&self) -> Result<Vec<String>, Fault> {
        let mut tags = Vec::new();
        let mut next = Some(self.uri("tags/list?n=1000")?);
        for _ in 0..PAGES {
            let Some(uri) = next.take() else { break };
            let answer = self.ask(&Method::GET, &uri).await?;
            tags.extend(manifest::tags(&answer.body).ok_or_else(|| Fault::Odd("its list of tags".into()))?);
            let link = answer.headers.get(LINK).and_then(|value| value.to_str().ok());
            next = match link.and_then(next_page) {
                Some(target) => Some(beside(&uri, target).ok_or_else(|| Fault::Odd("its next page of tags".into()))?),
                None => None,
            };
        }
        Ok(tags)
    }

    /// The layers of the image with this digest, for a platform such as `linux/amd64`.
    pub async fn layers(&self, digest: &str, platform: &str) -> Result<Vec<Layer>, Fault> {
        let odd = || Fault::Odd(format!("its manifest of {digest}"));
        let mut text = self.content(&format!("manifests/{digest}"), digest).await?;
        if let Entry::Index(entries) = manifest::read(&text).ok_or_else(odd)? {
            let Some(fitting) = manifest::fitting(&entries, platform) else {
                return Err(Fault::Platform(entries.into_iter().map(|(platform, _)| platform).collect()));
            };
            text = self.content(&format!("manifests/{fitting}"), fitting).await?;
        }
        let Entry::Image { config, sizes } = manifest::read(&text).ok_or_else(odd)? else { return Err(odd()) };
        let text = self.content(&format!("blobs/{config}"), &config).await?;
        let (is_for, diff_ids) = manifest::config(&text).ok_or_else(odd)?;
        if !manifest::fits(&is_for, platform) {
            return Err(Fault::Platform(vec![is_for]));
        }
        let layers = sizes.into_iter().zip(diff_ids);
        Ok(layers.map(|(size, diff_id)| Layer { size, diff_id }).collect())
    }

    /// Something with a digest, which must be right.
    async fn content(&self, path: &str, digest: &str) -> Result<Vec<u8>, Fault> {
        let answer = self.ask(&Method::GET, &self.uri(path)?).await?;
        if digest_of(&answer.body) != digest {
            return Err(Fault::Odd(format!("what it gives as {digest} has another digest")));
        }
        Ok(answer.body.to_vec())
    }

    fn uri(&self, path: &str) -> Result<Uri, Fault> {
        let scheme = if self.access.plain_http { "http" } else { "https" };
        let Reference { repository, .. } = &self.reference;
        let text = format!("{scheme}://{}/v2/{repository}/{path}", self.reference.authority());
        text.parse().map_err(|_| Fault::Odd(format!("`{text}` is no address")))
    }

    /// Asks until there is an answer that counts.
    async fn ask(&self, method: &Method, uri: &Uri) -> Result<Answer, Fault> {
        let mut pause = self.patience.pause;
        let mut tries = 1;
        loop {
            let (why, asked_for) = match self.try_once(method, uri).await {
                Ok(answer) => match answer.status {
                    status if status.is_success() => return Ok(answer),
                    StatusCode::NOT_FOUND => return Err(Fault::Missing),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Fault::Denied),
                    status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                        (format!("it answers {status}"), seconds(&answer.headers))
                    }
                    status => return Err(Fault::Odd(format!("it answers {status}"))),
                },
                Err(Fault::Down(why)) => (why, None),
                Err(fault) => return Err(fault),
            };
            tracing::debug!(target: "registry", %uri, %why, tries);
            if tries >= self.patience.tries {
                return Err(Fault::Down(why));
            }
            tokio::time::sleep(asked_for.unwrap_or(pause).min(self.patience.longest).mul_f64(jitter())).await;
            pause *= 2;
            tries += 1;
        }
    }

    /// One try; where we are asked who we are, we say so.
    async fn try_once(&self, method: &Method, uri: &Uri) -> Result<Answer, Fault> {
        let answer = self.follow(method, uri, self.authority.known()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let said = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = Challenge::strongest(said) else { return Ok(answer) };
        match self.authority.answer(&challenge, self).await? {
            Some(word) => self.follow(method, uri, Some(word)).await,
            None => Ok(answer),
        }
    }

    /// Goes where the registry sends us. Who we are is said to the registry alone.
    async fn follow(&self, method: &Method, uri: &Uri, word: Option<Secret>) -> Result<Answer, Fault> {
        let (mut uri, mut word) = (uri.clone(), word);
        for _ in 0..REDIRECTS {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, hyper::header::HeaderValue::from_static(MANIFESTS));
            let answer = self.send(method, &uri, headers, word.as_ref()).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let to = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let to = to.and_then(|to| beside(&uri, to)).ok_or_else(|| Fault::Odd("it sends us nowhere".into()))?;
            if uri.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
                return Err(Fault::Odd("it sends us from https to http".into()));
            }
            if !same_origin(&uri, &to) {
                word = None;
            }
            uri = to;
        }
        Err(Fault::Odd("it sends us round and round".into()))
    }

    /// One request, with what makes it ours.
    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        word: Option<&Secret>,
    ) -> Result<Answer, Fault> {
        let agent = concat!("reconcile/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, hyper::header::HeaderValue::from_static(agent));
        if let Some(word) = word {
            let mut value = hyper::header::HeaderValue::try_from(word.expose())
                .map_err(|_| Fault::Odd("its token is no text".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        self.http.send(method, uri, &headers, self.patience.answer).await.map_err(Fault::Down)
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// How long the registry asks us to wait.
fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Between a half and one and a half, so that many who were turned away do not come back together.
fn jitter() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish() >> 48;
    f64::from(u16::try_from(random).unwrap_or(0)) / f64::from(u16::MAX) + 0.5
}

/// The target of `Link: </v2/x/tags/list?last=b&n=2>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(target)
}

/// Where `target` leads, seen from `uri`: whole addresses and absolute paths are understood.
fn beside(uri: &Uri, target: &str) -> Option<Uri> {
    if !target.starts_with('/') {
        return target.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("https" | "http")));
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}
