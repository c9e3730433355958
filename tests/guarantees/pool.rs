//! 6, 7 and 13: servers behind nginx's pools, under load: one of them stops, and all of them are changed.
#![allow(clippy::print_stdout, reason = "figures, for whoever asks with --nocapture")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::stop::{How, Stop};
use crate::kit::{Host, Repo, finish, free_pair, shared};

/// A service that takes a tenth of a second for each request, and forgets those it has when it is stopped.
const APP: &str = r#"
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    # An answer goes out whole: one that was cut off after its head is nobody's to send again.
    wbufsize = 65536
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(0.1)
        body = os.environ["VERSION"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Three hosts with the service, of which the first is the proxy, too; in a repository of their own.
struct Fleet {
    repo: Repo,
    hosts: [Host; 3],
    port: u16,
}

impl Fleet {
    fn new(id: &str, port: u16, rollout: &str) -> Fleet {
        let hosts = ["lab-1", "lab-2", "lab-3"].map(shared);
        let repo = Repo::new(id, &[&hosts[0], &hosts[1], &hosts[2]]);
        repo.write("hosts/repo.kdl", format!("repo \"{id}\" {{ {rollout} }}\n"));
        repo.write("stacks/app/app.py", APP);
        let fleet = Fleet { repo, hosts, port };
        fleet.pool("500ms");
        fleet.version("one", "nowhere");
        fleet.repo.apply();
        fleet
    }

    fn proxy(&self) -> &Host {
        &self.hosts[0]
    }

    /// The proxy's stack.
    fn pool(&self, drain: &str) {
        let (id, port) = (&self.repo.id, self.port);
        let site = format!(
            r#"stack "lb" {{
    on "lab-1"
    site "{id}.test" {{
        listen "80"
        proxy "/" to="pool:app"
        pool "app" drain="{drain}" {{ server tag="lab" port={port} max-fails=1 fail-timeout="3s" }}
    }}
}}"#
        );
        self.repo.write("stacks/lb/stack.kdl", site);
    }

    /// The servers' stack; a version that fails on one of them, or on none.
    fn version(&self, version: &str, failing: &str) {
        let (id, port) = (&self.repo.id, self.port);
        let stack = format!(
            r#"stack "app" {{
    on tag="lab"
    file "/srv/{id}/app.py" source="app.py"
    unit "{id}-app" {{
        exec "/usr/bin/python3 /srv/{id}/app.py"
        listen {port}
        env VERSION="{version}" PORT="{port}"
        health http="/" within="5s"
        health command="{{{{ '/bin/false' if host.name == '{failing}' else '/bin/true' }}}}" within="1s"
    }}
}}"#
        );
        self.repo.write("stacks/app/stack.kdl", stack);
    }

    /// The file of the site on the proxy.
    fn file(&self) -> String {
        self.proxy().sh(&format!("cat /etc/nginx/sites-available/{}.test.conf", self.repo.id))
    }
}

/// Requests that go through the proxy at an even rate, until they are to end.
struct Load {
    begun: Instant,
    over: Arc<AtomicBool>,
    workers: Vec<thread::JoinHandle<Vec<(Duration, String)>>>,
}

impl Load {
    /// 120 a second.
    fn begin(fleet: &Fleet, method: &'static str) -> Load {
        const WORKERS: u32 = 20;
        const EVERY: Duration = Duration::from_millis(165);
        let (begun, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let worker = |number: u32| {
            let (address, host) = (fleet.proxy().address.clone(), format!("{}.test", fleet.repo.id));
            let over = over.clone();
            thread::spawn(move || {
                let mut said = Vec::new();
                let mut next = EVERY * number / WORKERS;
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_sub(begun.elapsed()));
                    let answer = ask(&address, &host, method).unwrap_or_else(|error| error.to_string());
                    said.push((next, answer));
                    next += EVERY;
                }
                said
            })
        };
        let workers = (0..WORKERS).map(worker).collect();
        Load { begun, over, workers }
    }

    /// A second more of them. For each when it was sent, and what came.
    fn end(self) -> Vec<(Duration, String)> {
        thread::sleep(Duration::from_secs(1));
        self.over.store(true, Ordering::Relaxed);
        let mut all: Vec<_> = self.workers.into_iter().flat_map(|worker| worker.join().expect("it ends")).collect();
        all.sort();
        all
    }
}

/// The body of an answer, or what was wrong with it.
fn ask(address: &str, host: &str, method: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, 80))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    Ok(if status.contains(" 200 ") { body.to_string() } else { status.to_string() })
}

/// How many answers are no version.
fn failed(said: &[(Duration, String)]) -> Vec<&(Duration, String)> {
    said.iter().filter(|(_, answer)| !["one", "two", "three"].contains(&answer.as_str())).collect()
}

#[test]
fn g13_a_server_that_stops_takes_no_requests_with_it() {
    let fleet = Fleet::new("g13-pool", 7241, "");
    let get = Load::begin(&fleet, "GET");
    thread::sleep(Duration::from_secs(3));
    let stopped = get.begun.elapsed();
    fleet.hosts[1].sh("systemctl kill -s KILL g13-pool-app; systemctl stop g13-pool-app");
    thread::sleep(Duration::from_secs(7));
    let said = get.end();
    let first = failed(&said);
    let after = first.iter().filter(|(sent, _)| *sent > stopped + Duration::from_secs(3)).count();
    println!(
        "one of three stopped: {} requests, {} failed, {after} of them after the first window",
        said.len(),
        first.len()
    );
    assert!(said.len() > 500, "{}", said.len());
    assert_eq!(after, 0, "{first:?}");
    assert!(first.is_empty(), "an idempotent request goes to the next server: {first:?}");
    fleet.repo.apply();
    fleet.repo.is_settled();
}

#[test]
fn g07_a_rolling_apply_behind_a_pool_fails_no_request() {
    let fleet = Fleet::new("g07-pool", 7242, "rollout { batch 1; on-failure \"revert\" }");
    let file = fleet.file();
    assert_eq!(file.matches(":7242 max_fails=1 fail_timeout=3s;").count(), 3, "{file}");
    fleet.version("two", "nowhere");
    let plan = fleet.repo.run(&["plan"]).out;
    assert!(
        plan.contains("  lab-2 is out of pool app on lab-1 meanwhile (0.5 s to drain; reload nginx there, twice)"),
        "{plan}"
    );
    // What has begun is not sent again to another server: it must be let come to its end.
    let post = Load::begin(&fleet, "POST");
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let ran = finish(fleet.repo.begin(&["apply", "--yes", "--json"]), Duration::from_mins(2));
    let took = begun.elapsed();
    let said = post.end();
    println!("a rolling apply of three in {took:?}: {} requests, {} failed", said.len(), failed(&said).len());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(failed(&said).is_empty() && said.len() > 300, "{:?}", failed(&said));
    assert_eq!(said.last().expect("requests").1, "two");
    assert_eq!(fleet.file(), file, "all are back");
    fleet.repo.is_settled();
    // A version that is not well on the last host: it goes back everywhere, under load, and all are back in the pool.
    fleet.version("three", "lab-3");
    let post = Load::begin(&fleet, "POST");
    let ran = fleet.repo.fail();
    let outcomes = [0, 1, 2].map(|host| ran.outcome_on(host, "unit:g07-pool-app"));
    assert_eq!(outcomes, ["rolled-back", "rolled-back", "rolled-back"], "{}", ran.out);
    let said = post.end();
    println!("and back: {} requests, {} failed", said.len(), failed(&said).len());
    assert!(failed(&said).is_empty(), "{:?}", failed(&said));
    assert_eq!((said.last().expect("requests").1.as_str(), fleet.file()), ("two", file));
}

#[test]
fn g06_a_server_that_was_left_out_of_its_pool_is_put_back() {
    let fleet = Fleet::new("g06-pool", 7243, "rollout { batch 1 }");
    let file = fleet.file();
    fleet.pool("60s");
    fleet.version("two", "nowhere");
    // The control side dies while requests come to their end.
    let mut run = fleet.repo.begin(&["apply", "--yes"]);
    fleet.proxy().until("grep -q ' down;' /etc/nginx/sites-available/g06-pool.test.conf");
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    let address = &fleet.hosts[0].address;
    assert_eq!(
        fleet.file(),
        file.replace(
            &format!("{address}:7243 max_fails=1 fail_timeout=3s;"),
            &format!("{address}:7243 max_fails=1 fail_timeout=3s down;")
        )
    );
    fleet.proxy().until("! [ -e /var/lib/reconcile/g06-pool/drain ]");
    let plan = fleet.repo.plan();
    let site = plan.change("site:g06-pool.test");
    assert_eq!((&site["action"], &site["cause"]), (&Value::from("update"), &Value::from("drift")), "{site:#}");
    // What changes its own pool is not taken out of it.
    assert_eq!(plan.0["waves"], serde_json::json!([["lab-1"], ["lab-2"], ["lab-3"]]));
    let drained = plan.0["drains"].as_array().expect("a list").iter().map(|drain| &drain["host"]);
    assert_eq!(drained.collect::<Vec<_>>(), ["lab-2", "lab-3"]);
    fleet.pool("100ms");
    fleet.repo.apply();
    assert_eq!(fleet.file(), file);
    fleet.repo.is_settled();
    // Two are out by hand: the third is not begun.
    fleet.version("three", "nowhere");
    fleet
        .proxy()
        .sh("sed -i '0,/3s;/s/3s;/3s down;/; 0,/3s;/s/3s;/3s down;/' /etc/nginx/sites-available/g06-pool.test.conf");
    let ran = fleet.repo.run(&["apply", "--yes", "--json", "--host", "lab-3"]);
    let why = ran.json()["hosts"][0]["error"]["what"].as_str().unwrap_or_default().to_string();
    assert!(why.contains("it is the last one there that gets requests"), "{}", ran.out);
    assert_eq!(ran.outcome("unit:g06-pool-app"), "blocked");
    assert_eq!(fleet.file().matches(" down;").count(), 2);
    // A host that is not well stays out.
    fleet.repo.apply_with(&["--host", "lab-1"]);
    assert_eq!(fleet.file(), file);
    // It stays so where the others go on and its proxy's file changes.
    fleet.repo.write("hosts/repo.kdl", "repo \"g06-pool\" { rollout { on-failure \"continue\" } }\n");
    fleet.version("four", "nowhere");
    let path = fleet.repo.path().join("stacks/lb/stack.kdl");
    let text = std::fs::read_to_string(&path).expect("the stack");
    std::fs::write(&path, text.replace("\"3s\"", "\"4s\"")).expect("written");
    let reject = |how: &str| fleet.hosts[1].sh(&format!("iptables {how} INPUT -p tcp --dport 7243 ! -i lo -j REJECT"));
    reject("-I");
    let ran = fleet.repo.run(&["apply", "--yes", "--json"]);
    reject("-D");
    let why = |host: usize| ran.json()["hosts"][host]["error"]["what"].as_str().unwrap_or_default().to_string();
    assert!(why(1).starts_with("lab-2 stays out of pool app on lab-1: nothing answers at "), "{}", ran.out);
    assert!(why(0).starts_with("lab-1 was not begun: lab-2 stays out of its pool app, and /etc/nginx/"), "{}", ran.out);
    assert_eq!(fleet.file().matches(" down;").count(), 1);
    fleet.repo.apply();
    fleet.repo.is_settled();
    // What is not known of a proxy that is not asked is said.
    std::fs::write(&path, text.replace("\"3s\"", "\"{{ 3 if facts else 4 }}s\"")).expect("written");
    fleet.version("five", "nowhere");
    let plan = fleet.repo.plan_with(&["--host", "lab-2"]);
    let warnings = plan.0["problems"].to_string();
    assert!(warnings.contains("its servers are not taken out of its pools on lab-1"), "{warnings}");
    assert!(!fleet.repo.plan().0["problems"].to_string().contains("not taken out"));
}

#[test]
fn g13_one_server_that_is_not_well_takes_no_other_one_out_of_its_pools() {
    let fleet = Fleet::new("g13-mesh", 7245, "");
    // Each is a proxy, too, and the file of each changes.
    let mesh = |timeout: &str| {
        fleet.pool("100ms");
        let path = fleet.repo.path().join("stacks/lb/stack.kdl");
        let text = std::fs::read_to_string(&path).expect("the stack");
        let text = text.replace("on \"lab-1\"", "on tag=\"lab\"").replace("\"3s\"", &format!("\"{timeout}\""));
        std::fs::write(&path, text).expect("written");
    };
    mesh("3s");
    fleet.repo.apply();
    mesh("4s");
    fleet.version("two", "nowhere");
    assert_eq!(fleet.repo.plan().0["waves"], serde_json::json!([["lab-1"], ["lab-2"], ["lab-3"]]));
    let reject = |how: &str| fleet.hosts[0].sh(&format!("iptables {how} INPUT -p tcp --dport 7245 ! -i lo -j REJECT"));
    reject("-I");
    let ran = fleet.repo.run(&["apply", "--yes", "--json"]);
    reject("-D");
    let outcomes = [0, 1, 2].map(|host| ran.outcome_on(host, "unit:g13-mesh-app"));
    assert_eq!(outcomes, ["applied", "blocked", "blocked"], "{}", ran.out);
    // Nothing was done to the others: they serve wherever they did.
    let out = |host: &Host| host.sh("cat /etc/nginx/sites-available/g13-mesh.test.conf").matches(" down;").count();
    assert_eq!(fleet.hosts.each_ref().map(out), [0, 1, 1], "{}", ran.out);
    // What stays out of several pools says so of each.
    let first = ran.json()["hosts"][0].to_string();
    assert!(
        ["lab-2", "lab-3"].iter().all(|proxy| first.contains(&format!("stays out of pool app on {proxy}: nothing")))
    );
    fleet.repo.apply();
    assert_eq!(fleet.hosts.each_ref().map(out), [0, 0, 0]);
    fleet.repo.is_settled();
}

#[test]
fn g13_a_server_that_was_not_begun_or_went_back_is_put_back() {
    let fleet = Fleet::new("g13-back", 7248, "rollout { batch 1; on-failure \"continue\" }");
    let (file, server) = (fleet.file(), &fleet.hosts[1]);
    fleet.version("two", "nowhere");
    let run = fleet.repo.begin(&["apply", "--yes", "--json"]);
    fleet.proxy().until("grep -q ' down;' /etc/nginx/sites-available/g13-back.test.conf");
    // By the time it is its turn, another one is no longer what the plan was made for.
    server.sh("echo '# by hand' >>/etc/systemd/system/g13-back-app.service");
    let ran = finish(run, Duration::from_mins(2));
    let why = ran.json()["hosts"][1]["failures"].to_string();
    assert!(why.contains("is no longer as it was planned") && !why.contains("stays out"), "{}", ran.out);
    let outcomes = |ran: &crate::kit::Ran| [0, 1, 2].map(|host| ran.outcome_on(host, "unit:g13-back-app"));
    assert_eq!((outcomes(&ran), ran.code), (["applied", "failed", "applied"].map(String::from), 3), "{}", ran.out);
    assert_eq!(fleet.file(), file, "nothing was done to it, so it serves");
    fleet.repo.apply();
    // One that its proxy does not reach once it is done goes back with the others, and is reached again by then.
    fleet.repo.write("hosts/repo.kdl", "repo \"g13-back\" { rollout { batch 1; on-failure \"revert\" } }\n");
    fleet.version("three", "nowhere");
    let reject = |how: &str| server.sh(&format!("iptables {how} INPUT -p tcp --dport 7248 ! -i lo -j REJECT"));
    reject("-I");
    let run = fleet.repo.begin(&["apply", "--yes", "--json"]);
    let version =
        |version: &str| server.until(&format!("grep -q 'VERSION={version}' /etc/systemd/system/g13-back-app.service"));
    version("three");
    version("two");
    reject("-D");
    let ran = finish(run, Duration::from_mins(2));
    assert_eq!(outcomes(&ran), ["rolled-back", "rolled-back", "skipped"], "{}", ran.out);
    assert_eq!((ran.code, fleet.file()), (4, file), "{}", ran.out);
    assert!(!ran.out.contains("stays out"), "{}", ran.out);
    fleet.version("two", "nowhere");
    fleet.repo.is_settled();
}

#[test]
fn g10_a_server_that_is_refused_is_not_taken_out_of_its_pool() {
    let fleet = Fleet::new("g10-pool", 7246, "limits deletions=1");
    let files = [1, 2, 3].map(|number| format!("file \"/srv/g10-pool/{number}\" content=\"x\"\n"));
    fleet.repo.write("stacks/aside/stack.kdl", format!("stack \"aside\" {{ on \"lab-2\"\n{}}}\n", files.concat()));
    fleet.repo.apply();
    fleet.repo.drop_stack("aside");
    fleet.version("two", "nowhere");
    // Whoever is taken out and put back leaves another file.
    let touched = || fleet.proxy().sh("stat -c '%i %z' /etc/nginx/sites-available/g10-pool.test.conf");
    let before = touched();
    let ran = fleet.repo.run(&["apply", "--yes", "--json", "--host", "lab-2"]);
    assert_eq!(ran.json()["hosts"][0]["error"]["kind"], "refused", "{}", ran.out);
    assert_eq!((ran.code, ran.outcome("unit:g10-pool-app"), touched()), (1, "blocked".into(), before.clone()));
    // What the plan has said of the pool is what an override of it does.
    let digest = fleet.repo.plan_with(&["--host", "lab-2"]).digest();
    let ran = fleet.repo.run(&["apply", "--json", "--host", "lab-2", "--override", &digest]);
    assert_eq!((ran.code, ran.outcome("unit:g10-pool-app")), (0, "applied".into()), "{}", ran.out);
    assert_ne!(touched(), before);
    fleet.repo.apply();
    fleet.repo.is_settled();
}

#[test]
fn g13_a_server_is_put_back_where_taking_it_out_breaks_off() {
    let [proxy, server] = free_pair();
    let repo = Repo::new("g13-half", &[&proxy, &server]);
    let stack = |version: &str| {
        repo.stack(
            "app",
            &format!(
                r#"unit "ID-app" {{ exec "/usr/bin/python3" "-m" "http.server" "7244"; listen 7244; env VERSION="{version}" }}"#
            ),
        );
    };
    stack("one");
    repo.write(
        "stacks/lb/stack.kdl",
        format!(
            r#"stack "lb" {{ on "{}"; site "g13-half.test" {{ proxy "/" to="pool:app"; pool "app" drain="1s" {{ server tag="lab" port=7244 }} }} }}"#,
            proxy.name
        ),
    );
    repo.apply();
    let file = || proxy.sh("cat /etc/nginx/sites-available/g13-half.test.conf");
    let before = file();
    stack("two");
    let plan = repo.run(&["plan"]).out;
    assert!(plan.contains("they go on whatever fails"), "nobody has asked for a rollout: {plan}");
    let stop = Stop::on(&proxy);
    stop.at(1, "tell_nginx*", How::Kill);
    let ran = repo.run(&["apply", "--yes", "--json", "--host", &server.name]);
    let (_, place) = stop.release();
    let why = ran.json()["hosts"][0]["error"]["what"].as_str().unwrap_or_default().to_string();
    assert!(why.contains("it could not be taken out: our program could not run on"), "{place}: {}", ran.out);
    assert_eq!((ran.outcome("unit:g13-half-app"), file()), ("blocked".into(), before));
    repo.apply();
    repo.is_settled();
}
