//! HTTP, and nothing that is not asked for: no proxy from the environment, no redirects, no credentials of its own.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::{SslConnector, SslMethod};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// How many bytes an answer may have: manifests and token answers are small.
const LARGEST: usize = 8 << 20;

/// What came back.
pub struct Answer {
    /// Such as 200.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// A client for one registry: it keeps connections open, and trusts either the system's authorities or only those of
/// a file.
#[derive(Clone)]
pub struct Http(Client<Dial, Empty<Bytes>>);

impl Http {
    /// A client that trusts the authorities in `ca` (PEM), or the system's where there is none.
    pub fn new(ca: Option<&[u8]>) -> Result<Http, String> {
        let mut tls = SslConnector::builder(SslMethod::tls_client()).map_err(|error| error.to_string())?;
        match ca {
            Some(pem) => {
                let certificates = openssl::x509::X509::stack_from_pem(pem).map_err(|error| error.to_string())?;
                let mut store = openssl::x509::store::X509StoreBuilder::new().map_err(|error| error.to_string())?;
                for certificate in certificates {
                    store.add_cert(certificate).map_err(|error| error.to_string())?;
                }
                tls.set_cert_store(store.build());
            }
            None => {
                // An OpenSSL that was built along looks for authorities where this system keeps none.
                if let Some(file) = openssl_probe::probe().cert_file {
                    tls.set_ca_file(file).map_err(|error| error.to_string())?;
                }
            }
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(Dial { tls: Arc::new(tls.build()) });
        Ok(Http(client))
    }

    /// One request and its answer, whatever its status, within `deadline`.
    pub async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        deadline: Duration,
    ) -> Result<Answer, String> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let work = async {
            let response = self.0.request(request).await.map_err(|error| chain(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let late = |_| Err(format!("no answer within {} s", deadline.as_secs_f32()));
        tokio::time::timeout(deadline, work).await.unwrap_or_else(late)
    }
}

/// An error with what lies beneath it: the top alone says only that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        words = error.to_string();
        beneath = error.source();
    }
    words
}

/// Opens connections: TCP, with TLS for `https`.
#[derive(Clone)]
struct Dial {
    tls: Arc<SslConnector>,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection, with or without TLS.
struct Wire(TokioIo<Box<dyn Duplex>>);

impl tower_service::Service<Uri> for Dial {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let secure = uri.scheme_str() == Some("https");
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))).await?;
            tcp.set_nodelay(true)?;
            if !secure {
                return Ok(Wire(TokioIo::new(Box::new(tcp))));
            }
            let session = tls.configure().and_then(|tls| tls.into_ssl(host)).map_err(io::Error::other)?;
            let mut stream = SslStream::new(session, tcp).map_err(io::Error::other)?;
            Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
            Ok(Wire(TokioIo::new(Box::new(stream))))
        })
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
