//! Who listens where: ports that two want, names that two serve, databases open to the world.

use std::collections::BTreeMap;

use crate::base::diagnostic::{Problem, Problems};
use crate::base::id::Kind;
use crate::resource::{Listen, Resource};

/// Ports of databases, caches and brokers, none of which should face the internet.
const INNER_PORTS: [(u16, &str); 15] = [
    (1433, "SQL Server"),
    (2379, "etcd"),
    (3306, "MySQL"),
    (5432, "PostgreSQL"),
    (5672, "RabbitMQ"),
    (5984, "CouchDB"),
    (6379, "Redis"),
    (7687, "Neo4j"),
    (8086, "InfluxDB"),
    (8123, "ClickHouse"),
    (9042, "Cassandra"),
    (9092, "Kafka"),
    (9200, "Elasticsearch"),
    (11211, "Memcached"),
    (27017, "MongoDB"),
];
/// Images of the same, by the last part of their name.
const INNER_IMAGES: [(&str, &str); 20] = [
    ("postgres", "PostgreSQL"),
    ("postgresql", "PostgreSQL"),
    ("postgis", "PostgreSQL"),
    ("timescaledb", "PostgreSQL"),
    ("pgvector", "PostgreSQL"),
    ("mysql", "MySQL"),
    ("mariadb", "MariaDB"),
    ("redis", "Redis"),
    ("valkey", "Valkey"),
    ("keydb", "KeyDB"),
    ("dragonfly", "Dragonfly"),
    ("dicedb", "DiceDB"),
    ("mongo", "MongoDB"),
    ("mongodb", "MongoDB"),
    ("memcached", "Memcached"),
    ("rabbitmq", "RabbitMQ"),
    ("elasticsearch", "Elasticsearch"),
    ("opensearch", "OpenSearch"),
    ("etcd", "etcd"),
    ("clickhouse-server", "ClickHouse"),
];

/// Checks all listeners of a host.
pub(super) fn check(resources: &[Resource], problems: &mut Problems) {
    let mut by_port: BTreeMap<u16, Vec<(&Resource, &Listen)>> = BTreeMap::new();
    for resource in resources {
        for listen in &resource.wiring.listens {
            by_port.entry(listen.port).or_default().push((resource, listen));
            warn_of_open(resource, listen, problems);
        }
    }
    for listeners in by_port.values() {
        for (index, one) in listeners.iter().enumerate() {
            for two in &listeners[index + 1..] {
                clash(*one, *two, problems);
            }
        }
    }
}

fn clash(one: (&Resource, &Listen), two: (&Resource, &Listen), problems: &mut Problems) {
    let both_sites = one.0.id.kind == Kind::Site && two.0.id.kind == Kind::Site;
    // Twice the same id, or one place written out for two families: reported elsewhere, or no mistake.
    if one.1.span == two.1.span || (one.0.id == two.0.id && one.0.id.kind != Kind::Compose) {
        return;
    }
    if both_sites {
        return same_names(one, two, problems);
    }
    if !overlap(one.1, two.1) || is_nginx(one.0, two.0) {
        return;
    }
    let problem = Problem::error(format!("both `{}` and `{}` listen on port {}", one.0.id, two.0.id, one.1.port));
    let problem = problem.at(&two.1.span, "here").at(&one.1.span, "and here");
    problems.push(problem.hint("only one of them can start: give one another port"));
}

/// A managed `nginx` unit is what listens for the sites.
fn is_nginx(one: &Resource, two: &Resource) -> bool {
    let nginx = |unit: &Resource, site: &Resource| {
        site.id.kind == Kind::Site && unit.id.kind == Kind::Unit && unit.id.name.trim_end_matches(".service") == "nginx"
    };
    nginx(one, two) || nginx(two, one)
}

/// Sites can share a port as long as nginx can tell them apart by name.
fn same_names(one: (&Resource, &Listen), two: (&Resource, &Listen), problems: &mut Problems) {
    if address(one.1) != address(two.1) {
        return;
    }
    for (name, span) in &one.0.wiring.serves {
        let Some((_, other)) = two.0.wiring.serves.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let message = format!("both `{}` and `{}` serve `{name}` on port {}", one.0.id, two.0.id, one.1.port);
        let problem = Problem::error(message).at(other, "here").at(span, "and here");
        problems.push(problem.hint("nginx would answer with the first and ignore the second"));
    }
}

/// The families of addresses that a listener is on, and the address if it is a single one.
fn address(listen: &Listen) -> (bool, bool, Option<&str>) {
    let bare = listen.address.as_deref().map(|text| text.trim_start_matches('[').trim_end_matches(']'));
    match bare {
        None | Some("" | "*") => (true, true, None),
        Some("0.0.0.0") => (true, false, None),
        Some("::") => (false, true, None),
        Some("localhost") => (true, false, Some("127.0.0.1")),
        Some(text) => (!text.contains(':'), text.contains(':'), Some(text)),
    }
}

fn overlap(one: &Listen, two: &Listen) -> bool {
    let (one, two) = (address(one), address(two));
    let same_family = (one.0 && two.0) || (one.1 && two.1);
    same_family && (one.2.is_none() || two.2.is_none() || one.2 == two.2)
}

/// A container's port that is published on all addresses goes around the host's firewall, too.
fn warn_of_open(resource: &Resource, listen: &Listen, problems: &mut Problems) {
    if address(listen).2.is_some() || (listen.container_port.is_none() && listen.image.is_none()) {
        return;
    }
    let inner = listen.container_port.unwrap_or(listen.port);
    let by_image = listen.image.as_deref().and_then(what_image_is);
    let by_port = || INNER_PORTS.iter().find(|(port, _)| *port == inner).map(|(_, what)| *what);
    let Some(what) = by_image.or_else(by_port) else { return };
    let message = format!("`{}` publishes {what} to the whole world on port {}", resource.id, listen.port);
    let problem = Problem::warning(message).at(&listen.span, "on all addresses, past the firewall");
    problems.push(problem.hint(format!("write `127.0.0.1:{}:{inner}`", listen.port)));
}

fn what_image_is(image: &str) -> Option<&'static str> {
    let name = image.rsplit('/').next()?.split([':', '@']).next()?;
    INNER_IMAGES.iter().find(|(known, _)| *known == name).map(|(_, what)| *what)
}
