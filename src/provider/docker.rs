//! The Docker Engine of a host, through the host's one connection: nothing of the Docker client on this side takes part,
//! neither its configuration nor its environment.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use camino::Utf8Path;
use futures_util::StreamExt as _;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::base::error::{Error, Kind, Result};
use crate::host::transport::Connection;
use crate::provider::registry::Access;

const SOCKET: &str = "/var/run/docker.sock";
/// How long opening a stream to the Engine may take.
const OPEN: Duration = Duration::from_secs(20);
/// How long an Engine may say nothing at all while it pulls: unpacking a large layer is silent.
pub(super) const SILENCE: u64 = 300;
/// How long a pull may take in all.
const PULL: Duration = Duration::from_hours(1);
/// How often a pull is begun in all. What had arrived is kept by the Engine.
const TRIES: u32 = 4;
/// How long to wait before the second try; twice as long before each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The header that takes credentials to the Engine.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// The Engine of one host.
pub struct Engine(pub(super) Docker);

/// How streams to an Engine are opened.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Its socket, forwarded.
    Socket,
    /// A command of Docker's that passes everything on: where forwarding is off, or the socket is not for us.
    Command(&'static str),
}

/// An image that an Engine is to have.
pub struct Wanted<'a> {
    /// Its name without tag and digest.
    pub name: &'a str,
    /// Its digest.
    pub digest: &'a str,
    /// The platform, where it is not the Engine's own.
    pub platform: Option<&'a str>,
    /// Where it comes from.
    pub access: &'a Access,
    /// The registry's name for the credentials.
    pub registry: &'a str,
}

/// How far a pull is: bytes that have come, and bytes known of so far.
pub type OnProgress<'a> = dyn FnMut(u64, u64) + Send + 'a;

impl Engine {
    /// The Engine that `connection` leads to; as root with `sudo`.
    pub async fn reach(connection: &Arc<Connection>, sudo: bool) -> Result<Engine> {
        let way = match connection.open_socket(Utf8Path::new(SOCKET), OPEN).await {
            Ok(_) => Way::Socket,
            Err(error) if error.kind == Kind::Host => {
                tracing::debug!(target: "docker", %error, "through `docker system dial-stdio`");
                Way::Command(if sudo { "sudo -n docker system dial-stdio" } else { "docker system dial-stdio" })
            }
            Err(error) => return Err(error),
        };
        let connection = connection.clone();
        let transport = move |request: BollardRequest| {
            let connection = connection.clone();
            async move { send(&connection, way, request).await }
        };
        let docker =
            Docker::connect_with_custom_transport(transport, Some("http://docker"), SILENCE, API_DEFAULT_VERSION);
        let docker = docker.map_err(|error| failed("Docker", &error))?.with_request_modifier(url_safe_credentials);
        let docker = docker.negotiate_version().await.map_err(|error| failed("Docker does not answer", &error))?;
        Ok(Engine(docker))
    }

    /// Pulls an image by its digest, and again where it breaks off.
    pub async fn pull(&self, image: &Wanted<'_>, on_progress: &mut OnProgress<'_>) -> Result<()> {
        let what = format!("{}@{}", image.name, image.digest);
        let work = async {
            let mut pause = PAUSE;
            let mut tries = 1;
            loop {
                match self.pull_once(image, on_progress).await {
                    Ok(()) => return Ok(()),
                    Err(why) if tries >= TRIES || is_final(&why) => {
                        return Err(Error::new(Kind::Host, format!("{what} cannot be pulled: {why}")).hint(hint(&why)));
                    }
                    Err(why) => tracing::warn!(target: "docker", image = %what, %why, tries, "pulling again"),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
                tries += 1;
            }
        };
        let late = |_| Err(Error::new(Kind::Host, format!("{what} was not pulled within {} s", PULL.as_secs())));
        tokio::time::timeout(PULL, work).await.unwrap_or_else(late)
    }

    /// Removes an image, unless something uses it.
    pub async fn discard(&self, image: &str) -> Result<()> {
        let removed = self.0.remove_image(image, None::<RemoveImageOptions>, None).await;
        removed.map(|_| ()).map_err(|error| failed(&format!("{image} cannot be removed"), &error))
    }

    async fn pull_once(&self, image: &Wanted<'_>, on_progress: &mut OnProgress<'_>) -> Result<(), String> {
        let options = CreateImageOptions {
            from_image: Some(image.name.into()),
            tag: Some(image.digest.into()),
            platform: image.platform.unwrap_or_default().into(),
            ..CreateImageOptions::default()
        };
        let credentials = image.access.login.as_ref().map(|(user, password)| DockerCredentials {
            username: Some(user.clone()),
            password: Some(password.expose().into()),
            serveraddress: Some(image.registry.into()),
            ..DockerCredentials::default()
        });
        let mut said = Box::pin(self.0.create_image(Some(options), None, credentials));
        let mut layers = BTreeMap::new();
        loop {
            match tokio::time::timeout(Duration::from_secs(SILENCE), said.next()).await {
                Ok(Some(Ok(line))) => {
                    if let Some(error) = line.error_detail.as_ref().and_then(|error| error.message.clone()) {
                        return Err(error);
                    }
                    if heard(&mut layers, &line) {
                        let (done, all) = layers.values().fold((0, 0), |(a, b), (done, all)| (a + done, b + all));
                        on_progress(done, all);
                    }
                }
                Ok(Some(Err(error))) => return Err(words(&error)),
                Ok(None) => break,
                Err(_) => return Err(format!("the Engine has said nothing for {SILENCE} s")),
            }
        }
        // The end of the stream may be the end of the link.
        let name = format!("{}@{}", image.name, image.digest);
        self.0.inspect_image(&name).await.map(|_| ()).map_err(|error| words(&error))
    }
}

/// Takes note of what one line says of a layer: bytes that have come, bytes in all. Whether that is news.
fn heard(layers: &mut BTreeMap<String, (u64, u64)>, line: &CreateImageInfo) -> bool {
    let (Some(id), Some(status)) = (&line.id, &line.status) else { return false };
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    match (status.as_str(), &line.progress_detail) {
        ("Downloading", Some(detail)) => {
            let (Some(done), Some(all)) = (number(detail.current), number(detail.total)) else { return false };
            layers.insert(id.clone(), (done, all));
            true
        }
        ("Download complete" | "Pull complete", _) => match layers.get_mut(id) {
            Some((done, all)) => {
                let news = *done < *all;
                *done = *all;
                news
            }
            None => false,
        },
        _ => false,
    }
}

/// Sends one request over a stream of its own.
async fn send(
    connection: &Connection,
    way: Way,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, bollard::errors::Error> {
    let other = |error: Error| bollard::errors::Error::from(io::Error::other(error.to_string()));
    let stream = match way {
        Way::Socket => connection.open_socket(Utf8Path::new(SOCKET), OPEN).await,
        Way::Command(command) => connection.open_command(command, OPEN).await,
    };
    let stream = stream.map_err(other)?;
    stream.set_nonblocking(true)?;
    let (mut sender, connected) =
        hyper::client::conn::http1::handshake(TokioIo::new(UnixStream::from_std(stream)?)).await?;
    tokio::spawn(async move {
        if let Err(error) = connected.await {
            tracing::debug!(target: "docker", %error, "a stream to the Engine broke");
        }
    });
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    Ok(sender.send_request(request).await?)
}

/// The Engine reads credentials in the alphabet that is safe in addresses; bollard writes them in the other one, and
/// the Engine then goes on as if there were none (fussybeaver/bollard#169).
fn url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(REGISTRY_AUTH)
        && let Ok(text) = value.to_str()
        && let Ok(mut safe) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        safe.set_sensitive(true);
        *value = safe;
    }
    request
}

/// Whether trying again cannot help.
fn is_final(why: &str) -> bool {
    let why = why.to_lowercase();
    let signs = [
        "unauthorized",
        "access denied",
        "access to the resource is denied",
        "no basic auth credentials",
        "not found",
        "manifest unknown",
        "no matching manifest",
        "no space left",
        "certificate signed by unknown authority",
        "server gave http response to https client",
        "digest mismatch",
        "verification failed",
    ];
    signs.iter().any(|sign| why.contains(sign))
}

/// What to do where images have no room.
pub(super) const MAKE_ROOM: &str = "make room where the Engine keeps its images; everything runs as before";

/// Whether there is no room for an image.
pub(super) fn has_no_room(why: &str) -> bool {
    why.to_lowercase().contains("no space left")
}

fn hint(why: &str) -> &'static str {
    let why = why.to_lowercase();
    if has_no_room(&why) {
        MAKE_ROOM
    } else if why.contains("certificate") {
        "the Engine of the host must trust the registry too: /etc/docker/certs.d/REGISTRY/ca.crt"
    } else if why.contains("http response to https") {
        "the Engine of the host must be told of a plain registry too: `insecure-registries` in /etc/docker/daemon.json"
    } else {
        "see that the host itself reaches the registry; everything runs as before"
    }
}

pub(super) fn words(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
        bollard::errors::Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    }
}

pub(super) fn failed(what: &str, error: &bollard::errors::Error) -> Error {
    Error::new(Kind::Host, format!("{what}: {}", words(error))).hint("see that `docker version` works there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_in_the_alphabet_that_the_engine_reads() {
        let body = bollard::body_full(hyper::body::Bytes::new());
        let mut request = BollardRequest::new(body);
        request.headers_mut().insert(REGISTRY_AUTH, HeaderValue::from_static("ab+/9=="));
        assert_eq!(url_safe_credentials(request).headers()[REGISTRY_AUTH], "ab-_9==");
    }
}
