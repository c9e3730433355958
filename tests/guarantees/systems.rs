//! The systems of `stacks/` that run as containers, from end to end on real hosts: nginx, Redis and `PostgreSQL` are real,
//! the programs are stand-ins.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::{Host, Repo, shared};
use camino::Utf8Path;

const STACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stacks");

/// A host of the lab with a Compose project of the root's stacks, and a repository that describes it.
struct System {
    host: Host,
    repo: Repo,
    project: &'static str,
}

impl System {
    /// Takes a stack of the root as it is, for one host, on which nothing is left of an earlier run.
    fn new(host: &str, stack: &str, project: &'static str) -> System {
        let host = shared(host);
        let id = format!("system-{project}");
        let label = format!("label=com.docker.compose.project={project}");
        host.sh(&format!(
            "docker ps -aq --filter {label} | xargs -r docker rm -f >/dev/null
             docker volume ls -q --filter {label} | xargs -r docker volume rm >/dev/null
             docker network ls -q --filter {label} | xargs -r docker network rm >/dev/null
             rm -rf /srv/{project}"
        ));
        let repo = Repo::new(&id, &[&host]);
        copy(&Utf8Path::new(STACKS).join(stack), &repo.path().join("stacks").join(stack));
        let kdl = host.kdl().replace("tags \"lab\"", "tags \"docker\"");
        repo.write(&format!("hosts/{}.kdl", host.name), kdl);
        System { host, repo, project }
    }

    /// Gives an image of the lab the name of a published one, and maybe another program of `tests/lab/apps` to run.
    fn image(&self, name: &str, from: &str, app: Option<&str>) {
        self.host.sh(&match app {
            None => format!("docker tag {from} {name}"),
            Some(app) => format!(
                "made=$(docker create {from}) &&
                 docker commit -c 'CMD [\"python3\", \"/app/{app}\"]' $made {name} >/dev/null && docker rm $made >/dev/null"
            ),
        });
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.repo.path().join(path)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {path}");
        self.repo.write(path, text.replace(from, to));
    }

    /// What curl says on the host.
    fn curl(&self, arguments: &str) -> String {
        self.host.sh(&format!("curl -sS -m 10 {arguments}")).trim().into()
    }

    fn container(&self, service: &str, format: &str) -> String {
        let project = self.project;
        let ask = "docker ps -aq --filter label=com.docker.compose";
        let script = format!(
            "docker inspect -f '{format}' $({ask}.project={project} --filter label=com.docker.compose.service={service})"
        );
        self.host.sh(&script).trim().into()
    }

    fn ids(&self, services: &[&str]) -> Vec<String> {
        services.iter().map(|service| self.container(service, "{{.Id}}")).collect()
    }

    /// Without the stack nothing of it is left.
    fn goes(self, stack: &str) {
        self.repo.drop_stack(stack);
        self.repo.stack("nothing", "file \"/srv/ID-nothing\" content=\"x\"");
        self.repo.apply();
        self.repo.is_settled();
        let left = self.host.sh(&format!("docker ps -aq --filter label=com.docker.compose.project={}", self.project));
        assert_eq!(left, "");
        self.host.sh(&format!("test ! -e /srv/{}/compose.yaml", self.project));
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = std::process::Command::new("cp").args(["-r", from.as_str(), to.as_str()]).status().unwrap();
    assert!(copied.success(), "{from}");
}

#[test]
fn the_greetings_as_containers() {
    const STACK: &str = "overengineered-compose";
    let system = System::new("lab-1", STACK, "greetings");
    for (name, app) in [("api", "greet_api.py"), ("web", "site.py")] {
        for tag in ["1.4.0", "1.5.0"] {
            system.image(&format!("ghcr.io/acme/greetings-{name}:{tag}"), "lab/python:1", Some(app));
        }
    }
    system.image("ghcr.io/acme/greetings-api:1.5.0", "lab/python:2", Some("greet_api.py"));
    system.image("valkey/valkey:8-alpine", "lab/redis:1", None);
    system.image("nginx:1.27-alpine", "lab/nginx:1", None);
    // The host's own nginx has port 80.
    system.edit(&format!("stacks/{STACK}/values.yaml"), "port: 80\n", "port: 8095\n");
    system.repo.apply();
    system.repo.is_settled();

    let api = "-H 'Host: api-greetings.example.org' http://127.0.0.1:8095";
    let web = "-H 'Host: greetings.example.org' http://127.0.0.1:8095";
    assert_eq!(system.curl(&format!("{api}/greet?name=Ada")), "Hello, Ada!");
    assert_eq!(system.curl(&format!("{api}/count")), "1");
    assert_eq!(
        system.host.sh("docker exec $(docker ps -q --filter name=greetings-cache) redis-cli get count").trim(),
        "1"
    );
    assert!(system.curl(&format!("{web}/")).contains("<h1>Hello from the site</h1>"));

    // The whole configuration of nginx counts, for both names.
    for url in [format!("{api}/count"), format!("{web}/"), format!("{web}/style.css")] {
        let head = system.curl(&format!("-o /dev/null -D - {url}")).to_lowercase();
        for wanted in ["x-frame-options: sameorigin", "strict-transport-security: ", "content-security-policy: "] {
            assert!(head.contains(wanted), "{wanted} at {url}: {head}");
        }
        assert_eq!(head.contains("cache-control: max-age=2592000"), url.contains("css"), "{head}");
        assert_eq!(head.contains("x-cache-status: "), url.contains("api-"), "{head}");
        assert!(!head.contains("nginx/"), "its version stays unsaid: {head}");
    }
    assert_eq!(system.container("cache", "{{json .HostConfig.PortBindings}}"), "{}");

    // A new version of the API: the website answers all the time, and nothing else is replaced.
    let (others, before) = (["web", "cache", "nginx"], system.ids(&["api"]));
    let kept = system.ids(&others);
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(system.curl(&format!("-f {web}/")).contains("<h1>"));
                asked += 1;
            }
            asked
        });
        system.edit(&format!("stacks/{STACK}/values.yaml"), "api_tag: \"1.4.0\"", "api_tag: \"1.5.0\"");
        let ran = system.repo.apply();
        done.store(true, Ordering::Relaxed);
        assert_eq!(ran.outcome("compose:greetings"), "applied");
        load.join().unwrap()
    });
    assert!(asked > 3, "{asked} requests");
    assert_eq!(system.ids(&others), kept);
    assert_ne!(system.ids(&["api"]), before);
    assert_eq!(system.curl(&format!("{api}/count")), "1", "the database stays");
    system.repo.is_settled();
    system.goes(STACK);
}

/// Opens a WebSocket through nginx, sends a frame and prints what comes back.
const WEBSOCKET: &str = r#"
python3 - <<'END'
import socket
link = socket.create_connection(("127.0.0.1", 8092), timeout=10)
link.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
file = link.makefile("rb")
print(file.readline().split()[1].decode())
while file.readline().strip():
    pass
mask = b"\1\2\3\4"
link.sendall(b"\x81\x85" + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(b"hello")))
size = file.read(2)[1]
print(file.read(size).decode())
END
"#;

#[test]
fn a_number_goes_through_every_part_of_fibonacci() {
    const STACK: &str = "fibonacci";
    let mut system = System::new("lab-2", STACK, "fibonacci");
    for part in ["client", "api", "worker"] {
        let app = format!("fibonacci_{part}.py");
        system.image(&format!("docker.io/acme/fibonacci-{part}:2.0"), "lab/python:1", Some(&app));
    }
    for (name, from) in
        [("nginx:1.27-alpine", "nginx"), ("redis:7-alpine", "redis"), ("postgres:17-alpine", "postgres")]
    {
        system.image(name, &format!("lab/{from}:1"), None);
    }
    system.repo.apply();
    system.repo.is_settled();

    assert!(system.curl("http://127.0.0.1:8092/").contains("Fib calculator"));
    let post = "-X POST -H 'Content-Type: application/json' -d '{\"index\": 7}' http://127.0.0.1:8092/api/values";
    assert_eq!(system.curl(post), "{\"working\": true}");
    system.host.until("curl -s http://127.0.0.1:8092/api/values/current | grep -q '\"7\": \"21\"'");
    assert_eq!(system.curl("http://127.0.0.1:8092/api/values/all"), "[7]");
    assert_eq!(system.host.sh(WEBSOCKET), "101\nhello\n");
    for service in ["nginx", "client", "api", "worker", "redis", "postgres"] {
        assert_eq!(system.container(service, "{{.HostConfig.Memory}}"), "134217728", "{service}");
    }
    // What is written down outlives the containers.
    system.host.sh("docker restart $(docker ps -q --filter name=fibonacci-postgres) >/dev/null");
    system.host.until("curl -s http://127.0.0.1:8092/api/values/all | grep -q '^\\[7\\]$'");
    system.repo.is_settled();

    // In production the databases are somebody else's: their containers go, the password is a secret.
    system.repo.env("FIBONACCI_DB", "hunter2-very-secret");
    system.edit("stacks/fibonacci/stack.kdl", "values \"values.yaml\"", "values \"values.yaml\" \"production.yaml\"");
    system.repo.write("hosts/secrets.kdl", "secret \"fibonacci_db\" env=\"FIBONACCI_DB\"\n");
    let plan = system.repo.plan();
    let said = plan.0.to_string();
    assert!(!said.contains("hunter2"), "{said}");
    let paths = plan.paths();
    assert!(paths.contains("/srv/fibonacci/.env") && paths.contains("/srv/fibonacci/compose.yaml"), "{paths:?}");
    assert!(said.contains("\"remove\":[\"postgres\",\"redis\"]"), "{said}");
    system.goes(STACK);
}

#[test]
fn microservices_are_built_on_their_own_base() {
    const STACK: &str = "microservices";
    let system = System::new("lab-3", STACK, "microservices");
    system
        .host
        .sh("docker rmi -f custom-python:3 microservices-a microservices-b microservices-c >/dev/null 2>&1; true");
    system.image("python:3.13-slim", "lab/python:1", None);
    system.image("nginx:1.27-alpine", "lab/nginx:1", None);
    system.image("netdata/netdata:v2.2", "lab/python:1", Some("monitor.py"));
    system.repo.apply();
    system.repo.is_settled();

    let get = |path: &str| system.curl(&format!("http://127.0.0.1:8094{path}"));
    assert_eq!(get("/"), "<!doctype html><h1>service a and service b</h1>");
    assert_eq!((get("/api/a/"), get("/api/b/health")), ("service a".into(), "ok".into()));
    assert_eq!(get("/netdata/api/v1/info"), "{\"version\": \"stand-in\"}");
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}} {{.HostConfig.NanoCpus}}";
    assert_eq!(system.container("service-a", limits), "134217728 67108864 200000000");
    assert_eq!(system.container("service-b", "{{.State.Health.Status}} {{.Config.User}}"), "healthy 1000:1000");

    // A change of one service builds that one; a change of the base builds all that stands on it.
    let all = ["service-a", "service-b", "service-c"];
    let before = system.ids(&all);
    system.edit("stacks/microservices/service-a/main.py", "service a", "service A");
    let plan = system.repo.plan().0.to_string();
    assert!(plan.contains("\"build\":[\"service-a\"]"), "{plan}");
    system.repo.apply();
    assert_eq!(get("/"), "<!doctype html><h1>service A and service b</h1>");
    assert_eq!(system.ids(&all)[1..], before[1..]);
    system.repo.is_settled();
    system.edit("stacks/microservices/base/service.py", "lambda: \"ok\\n\"", "lambda: \"fine\\n\"");
    system.repo.apply();
    assert_eq!((get("/api/a/health"), get("/api/b/health")), ("fine".into(), "fine".into()));
    system.repo.is_settled();
    system.goes(STACK);
}

/// A sandbox with one Compose project, whose file somebody wrote by hand.
fn by_hand(compose: &str, files: &[(&str, &str)]) -> Repo {
    let repo = Repo::new("by-hand", &[]);
    repo.write("hosts/vps.kdl", "host \"vps\" address=\"203.0.113.10\"\n");
    repo.write(
        "stacks/app/stack.kdl",
        "stack \"app\" {\n on \"vps\"\n compose \"app\" file=\"docker-compose.yml\"\n}\n",
    );
    repo.write("stacks/app/docker-compose.yml", compose);
    for (path, text) in files {
        repo.write(&format!("stacks/app/{path}"), text);
    }
    repo
}

const FIRST: &str = "services:
  api:
    image: ghcr.io/acme/api:latest
    ports:
      - \"8080:8080\"
    depends_on:
      - dicedb
    environment:
      - REDIS_URL=dicedb:7379
  dicedb:
    image: dicedb/dicedb
    ports:
      - \"7379:7379\"
  nginx:
    image: nginx:alpine
    ports:
      - \"80:80\"
    volumes:
      - ./nginx.conf:/etc/nginx/nginx.conf:ro
    depends_on:
      - api
";

const NGINX: &str = "events {}\nhttp {\n    server {\n        location / {\n            proxy_pass http://api:8080;\n        }\n    }\n}\n";

#[test]
fn mistakes_like_those_of_the_seeds_are_named_with_their_place() {
    let said = |compose: &str, nginx: &str| {
        let ran = by_hand(compose, &[("nginx.conf", nginx)]).run(&["check"]);
        (ran.code, ran.err)
    };
    let find = |compose: String, nginx: &str, code: i32, place: &str, words: &str| {
        let (ended, text) = said(&compose, nginx);
        assert_eq!(ended, code, "{words}: {text}");
        assert!(text.contains(place) && text.contains(words), "{place}: {words}: {text}");
    };
    // The cache of the first version in Docker is open to the world.
    find(FIRST.into(), NGINX, 0, "docker-compose.yml:13:9", "publishes DiceDB to the whole world on port 7379");
    let closed = FIRST.replace("    ports:\n      - \"7379:7379\"\n", "");
    assert_eq!(said(&closed, NGINX), (0, String::new()));
    for (port, what) in [
        (5432, "PostgreSQL"),
        (3306, "MySQL"),
        (6379, "Redis"),
        (27017, "MongoDB"),
        (9200, "Elastic"),
        (11211, "Memcached"),
    ] {
        let open = format!("services:\n  data:\n    image: acme/data\n    ports: [\"{port}:{port}\"]\n");
        find(open, NGINX, 0, "docker-compose.yml:4:", what);
    }
    find(closed.replace("      - dicedb\n", "      - dice\n"), NGINX, 1, "docker-compose.yml:7:9", "has no `dice`");
    let volume = closed.replace("./nginx.conf:/etc/nginx/nginx.conf:ro", "logs:/var/log/nginx");
    find(volume, NGINX, 1, "docker-compose.yml:17:9", "`volumes` of this project has no `logs`");
    let network = closed.replace("    image: nginx:alpine\n", "    image: nginx:alpine\n    networks: [front]\n");
    find(network, NGINX, 1, "docker-compose.yml:14:16", "`networks` of this project has no `front`");
    // The service is called `api`, and its own name in the proxy's file is another one.
    let server = NGINX.replace("http://api:8080", "http://server:5000");
    find(closed.clone(), &server, 0, "nginx.conf:5:", "no service of `compose:app` is called `server`");
    // Two that cannot reach each other, as they share no network.
    let apart = closed.replace("    image: nginx:alpine\n", "    image: nginx:alpine\n    networks: [front]\n")
        + "networks:\n  front:\n";
    find(apart, NGINX, 0, "nginx.conf:5:", "shares no network with `api`");
}
