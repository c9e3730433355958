//! A registry's client against a registry that does what a test tells it to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// What a registry is asked: method, path, and headers by their names in lower case.
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
}

/// A registry on the loopback that answers with `answer`, and remembers what it was asked.
struct Stand {
    address: String,
    asked: Arc<std::sync::Mutex<Vec<Asked>>>,
}

/// Status, headers, body. A status of 0 hangs.
type Said = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl Stand {
    fn new(answer: impl Fn(usize, &Asked) -> Said + Send + Sync + 'static) -> Stand {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (heard, answer, count) = (asked.clone(), Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (heard, answer, count) = (heard.clone(), answer.clone(), count.clone());
                std::thread::spawn(move || serve(stream, &heard, &*answer, &count));
            }
        });
        Stand { address, asked }
    }

    fn repository(&self, login: bool) -> Repository {
        self.patiently(login, Duration::from_secs(30))
    }

    fn patiently(&self, login: bool, answer: Duration) -> Repository {
        let patience =
            Patience { answer, tries: 3, pause: Duration::from_millis(10), longest: Duration::from_millis(50) };
        let reference = Reference::parse(&format!("{}/acme/api:1.4", self.address)).expect("a name");
        let login = login.then(|| ("ci".to_string(), Secret::new("aa>~?hush".into())));
        Repository::new(&reference, &Access { login, plain_http: true, ca: None }, patience).expect("a client")
    }

    fn lines(&self) -> Vec<String> {
        self.asked.lock().expect("whole").iter().map(|asked| asked.line.clone()).collect()
    }

    /// The `Authorization` of each request.
    fn words(&self) -> Vec<Option<String>> {
        self.asked.lock().expect("whole").iter().map(|asked| asked.headers.get("authorization").cloned()).collect()
    }
}

fn serve(
    stream: TcpStream,
    heard: &std::sync::Mutex<Vec<Asked>>,
    answer: &dyn Fn(usize, &Asked) -> Said,
    count: &AtomicUsize,
) {
    let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines().map_while(Result::ok);
    let mut stream = stream;
    while let Some(line) = lines.next() {
        let headers = lines.by_ref().take_while(|line| !line.is_empty());
        let headers = headers.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_string()))
        });
        let asked = Asked { headers: headers.collect(), line: line.trim_end_matches(" HTTP/1.1").to_string() };
        let (status, headers, body) = answer(count.fetch_add(1, Ordering::SeqCst), &asked);
        let head_only = asked.line.starts_with("HEAD");
        heard.lock().expect("whole").push(asked);
        if status == 0 {
            std::thread::sleep(Duration::from_mins(1));
            return;
        }
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in &headers {
            _ = write!(head, "{name}: {value}\r\n");
        }
        let body = if head_only { Vec::new() } else { body };
        if stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).is_err() {
            return;
        }
    }
}

fn plain(status: u16) -> Said {
    (status, Vec::new(), Vec::new())
}

fn tagged(digest: &str) -> Said {
    (200, vec![("docker-content-digest", digest.to_string())], Vec::new())
}

fn some_digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

#[tokio::test]
async fn a_tag_is_one_request() {
    let stand = Stand::new(|_, _| tagged(&some_digest()));
    assert_eq!(stand.repository(true).digest("1.4").await, Ok(some_digest()));
    assert_eq!(stand.lines(), ["HEAD /v2/acme/api/manifests/1.4"]);
    let accepts = stand.asked.lock().expect("whole")[0].headers["accept"].clone();
    for kind in ["oci.image.index.v1+json", "manifest.list.v2+json", "image.manifest.v1+json", "manifest.v2+json"] {
        assert!(accepts.contains(kind), "{accepts}");
    }
    // Who we are is said to nobody who has not asked.
    assert_eq!(stand.words(), [None]);
}

#[tokio::test]
async fn what_a_registry_says_is_told_apart() {
    for (status, fault) in [
        (404, Fault::Missing),
        (401, Fault::Denied),
        (403, Fault::Denied),
        (500, Fault::Down("it answers 500 Internal Server Error".into())),
        (429, Fault::Down("it answers 429 Too Many Requests".into())),
        (418, Fault::Odd("it answers 418 I'm a teapot".into())),
    ] {
        let stand = Stand::new(move |_, _| plain(status));
        assert_eq!(stand.repository(true).digest("1.4").await, Err(fault), "{status}");
        let tries = if status == 500 || status == 429 { 3 } else { 1 };
        assert_eq!(stand.lines().len(), tries, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_is_busy_for_a_moment_is_asked_again() {
    let stand = Stand::new(|count, _| match count {
        0 => (429, vec![("retry-after", "60".into())], Vec::new()),
        1 => plain(503),
        _ => tagged(&some_digest()),
    });
    let begun = Instant::now();
    assert_eq!(stand.repository(false).digest("1.4").await, Ok(some_digest()));
    // It asked for a whole minute, but we wait no longer than we like.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up() {
    let stand = Stand::new(|_, _| plain(0));
    let fault = stand.patiently(false, Duration::from_millis(200)).digest("1.4").await.expect_err("no answer");
    assert_eq!(fault, Fault::Down("no answer within 0.2 s".into()));
    assert_eq!(stand.lines().len(), 3, "after a few tries");
}

#[tokio::test]
async fn nobody_listens() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let stand = Stand { address: gone.to_string(), asked: Arc::default() };
    let fault = stand.repository(false).digest("1.4").await.expect_err("nobody is there");
    assert!(matches!(&fault, Fault::Down(why) if why.contains("refused")), "{fault:?}");
}

#[tokio::test]
async fn user_and_password_are_said_when_asked_for_and_only_then() {
    let word = "Basic Y2k6YWE+fj9odXNo";
    let stand = Stand::new(move |_, asked| match asked.headers.get("authorization") {
        Some(said) if said == word => tagged(&some_digest()),
        _ => (401, vec![("www-authenticate", "Basic realm=\"x\"".into())], Vec::new()),
    });
    let repository = stand.repository(true);
    assert_eq!(repository.digest("1.4").await, Ok(some_digest()));
    assert_eq!(repository.digest("1.5").await, Ok(some_digest()));
    let word = Some(word.to_string());
    // Once told who asks, it is told at once.
    assert_eq!(stand.words(), [None, word.clone(), word]);
    assert_eq!(stand.repository(false).digest("1.4").await, Err(Fault::Denied), "nobody has no password");
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says() {
    let tokens = Stand::new(|_, asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Basic Y2k6YWE+fj9odXNo") => (200, Vec::new(), br#"{"token":"T1"}"#.to_vec()),
        None => (200, Vec::new(), br#"{"access_token":"anonymous"}"#.to_vec()),
        Some(_) => plain(401),
    });
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s 1\"", tokens.address);
    let stand = Stand::new(move |_, asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer T1") => tagged(&some_digest()),
        _ => (401, vec![("www-authenticate", realm.clone())], Vec::new()),
    });
    assert_eq!(stand.repository(true).digest("1.4").await, Ok(some_digest()));
    assert_eq!(tokens.lines(), ["GET /token?service=s%201&scope=repository%3Aacme%2Fapi%3Apull"]);
    assert_eq!(stand.repository(false).digest("1.4").await, Err(Fault::Denied), "the anonymous token does not serve");
}

#[tokio::test]
async fn who_we_are_does_not_follow_to_another_host() {
    let other = Stand::new(|_, _| tagged(&some_digest()));
    let target = format!("http://{}/elsewhere", other.address);
    let stand = Stand::new(move |_, asked| match asked.headers.get("authorization") {
        None => (401, vec![("www-authenticate", "Basic realm=x".into())], Vec::new()),
        Some(_) if asked.line.ends_with("1.4") => (307, vec![("location", "/v2/here".into())], Vec::new()),
        Some(_) => (307, vec![("location", target.clone())], Vec::new()),
    });
    assert_eq!(stand.repository(true).digest("1.4").await, Ok(some_digest()));
    assert!(stand.words()[2].is_some(), "the same host hears it again");
    assert_eq!(other.words(), [None], "another host never does");
}

#[tokio::test]
async fn being_sent_round_and_round_ends() {
    let stand = Stand::new(|_, _| (302, vec![("location", "/v2/x".into())], Vec::new()));
    let fault = stand.repository(false).digest("1.4").await;
    assert_eq!(fault, Err(Fault::Odd("it sends us round and round".into())));
}

#[tokio::test]
async fn tags_come_page_by_page() {
    let stand = Stand::new(|_, asked| {
        let (next, body) = match asked.line.as_str() {
            line if line.ends_with("n=1000") => (Some("</v2/acme/api/tags/list?last=b>; rel=\"next\""), r#"["a","b"]"#),
            _ => (None, r#"["c"]"#),
        };
        let link = next.map(|next| ("link", next.to_string())).into_iter().collect();
        (200, link, format!(r#"{{"name":"acme/api","tags":{body}}}"#).into_bytes())
    });
    assert_eq!(stand.repository(false).tags().await, Ok(["a", "b", "c"].map(String::from).into()));
}

/// A registry with one image for one platform, in an index; `spoil` may change what it gives.
fn with_image(platform: &'static str, spoil: fn(&str, Vec<u8>) -> Vec<u8>) -> (Stand, String) {
    let (os, machine) = platform.split_once('/').expect("two words");
    let config =
        format!(r#"{{"os":"{os}","architecture":"{machine}","rootfs":{{"diff_ids":["sha256:x","sha256:y"]}}}}"#);
    let manifest = format!(
        r#"{{"config":{{"digest":"{}"}},"layers":[{{"digest":"a","size":10}},{{"digest":"b","size":7}}]}}"#,
        digest_of(config.as_bytes())
    );
    let index = format!(
        r#"{{"manifests":[{{"digest":"{}","platform":{{"os":"{os}","architecture":"{machine}"}}}}]}}"#,
        digest_of(manifest.as_bytes())
    );
    let found = digest_of(index.as_bytes());
    let all: BTreeMap<String, String> =
        [config, manifest, index].into_iter().map(|text| (digest_of(text.as_bytes()), text)).collect();
    let stand = Stand::new(move |_, asked| {
        let digest = asked.line.rsplit('/').next().unwrap_or_default().to_string();
        match all.get(&digest) {
            Some(text) => (200, Vec::new(), spoil(&asked.line, text.clone().into_bytes())),
            None => plain(404),
        }
    });
    (stand, found)
}

#[tokio::test]
async fn layers_are_those_of_the_platform() {
    let (stand, digest) = with_image("linux/amd64", |_, body| body);
    let layers = stand.repository(false).layers(&digest, "linux/amd64").await.expect("an image");
    let layers: Vec<(u64, &str)> = layers.iter().map(|layer| (layer.size, layer.diff_id.as_str())).collect();
    assert_eq!(layers, [(10, "sha256:x"), (7, "sha256:y")]);
    let other = stand.repository(false).layers(&digest, "linux/arm64").await;
    assert_eq!(other, Err(Fault::Platform(vec!["linux/amd64".into()])));
}

#[tokio::test]
async fn what_does_not_have_its_digest_is_refused() {
    for part in ["manifests/", "blobs/"] {
        let (stand, digest) = match part {
            "blobs/" => {
                with_image("linux/amd64", |line, body| if line.contains("blobs/") { b"{}".to_vec() } else { body })
            }
            _ => with_image("linux/amd64", |_, mut body| {
                body.push(b' ');
                body
            }),
        };
        let fault = stand.repository(false).layers(&digest, "linux/amd64").await.expect_err(part);
        assert!(matches!(&fault, Fault::Odd(why) if why.contains("another digest")), "{part} {fault:?}");
    }
    let stand = Stand::new(|_, _| tagged("sha256:short"));
    assert!(matches!(stand.repository(false).digest("1").await, Err(Fault::Odd(_))));
}

#[tokio::test]
async fn a_registry_that_tells_no_digest_is_read() {
    let stand = Stand::new(|_, _| (200, Vec::new(), b"{}".to_vec()));
    assert_eq!(stand.repository(false).digest("1.4").await, Ok(digest_of(b"{}")));
}
