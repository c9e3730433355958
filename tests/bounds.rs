//! 10, on a sandbox host: how much one run may take away, and that nothing is deleted by a slip.

#[path = "shared/mod.rs"]
#[allow(dead_code)] // Each test binary uses a part.
mod shared;

use serde_json::Value;
use shared::{Ran, Repository};

const HOSTS: &str = "repo \"bounds\"\nhost \"box\" transport=\"local\" root=\".sandbox\" { tags \"web\" }\n";

fn repository(number: usize) -> Repository {
    let repository = Repository::new(None);
    repository.write("hosts/hosts.kdl", HOSTS);
    stack(&repository, number);
    repository.must(&["apply", "--yes"]);
    repository
}

/// A stack with so many files.
fn stack(repository: &Repository, number: usize) {
    let files: String = (0..number).map(|n| format!("file \"/srv/{n}\" content=\"{n}\"\n")).collect();
    repository.write("stacks/web/stack.kdl", &format!("stack \"web\" {{\non tag=\"web\"\n{files}}}\n"));
}

fn there(repository: &Repository) -> usize {
    std::fs::read_dir(repository.path(".sandbox/srv")).map_or(0, Iterator::count)
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
}

#[test]
fn g10_a_plan_beyond_the_limits_is_shown_and_refused() {
    let repository = repository(40);
    stack(&repository, 9);
    let ran = repository.run(&["plan"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.stdout.contains("refused: would remove 31 of 40 resources: the limit is 20"), "{}", ran.all());
    assert!(ran.stdout.contains("0 to add, 0 to change, 31 to remove"), "{}", ran.all());
    let command = ran.stdout.lines().find_map(|line| line.split_once("reconcile ")).expect("how to override it").1;
    let refused = repository.run(&["apply", "--yes"]);
    assert_eq!((refused.code, there(&repository)), (1, 40), "{}", refused.all());
    assert!(refused.all().contains(command), "{}", refused.all());
    // An override is for one plan.
    stack(&repository, 8);
    let arguments: Vec<&str> = command.split(' ').collect();
    let moved = repository.run(&arguments);
    assert_eq!((moved.code, there(&repository)), (1, 40), "{}", moved.all());
    stack(&repository, 9);
    repository.must(&arguments);
    assert_eq!(there(&repository), 9);
    repository.assert_nothing_to_do();
}

#[test]
fn g10_limits_are_set_in_the_repository() {
    let repository = repository(40);
    repository
        .write("hosts/hosts.kdl", &HOSTS.replace("\"bounds\"", "\"bounds\" { limits deletions=31 share=\"80%\" }"));
    stack(&repository, 9);
    repository.must(&["apply", "--yes"]);
    assert_eq!(there(&repository), 9);
    for (wrong, said) in [
        ("limits deletions=many", "`many` is not a number"),
        ("limits share=\"150%\"", "`150` is not a share"),
        ("limits restart=1", "did you mean `restarts`?"),
        ("transaction both", "a transaction is a stack or a host, not `both`"),
    ] {
        let wrong = wrong.replace("many", "\"many\"").replace("both", "\"both\"");
        repository.write("hosts/hosts.kdl", &HOSTS.replace("\"bounds\"", &format!("\"bounds\" {{ {wrong} }}")));
        let ran = repository.run(&["check"]);
        assert!(ran.code == 1 && ran.all().contains(said), "{wrong}: {}", ran.all());
    }
}

#[test]
fn g10_an_empty_or_failed_render_deletes_nothing() {
    let repository = repository(3);
    let whole = std::fs::read_to_string(repository.path("stacks/web/stack.kdl")).unwrap();
    let with = |line: &str| whole.replace("on tag=\"web\"\n", &format!("on tag=\"web\"\n{line}\n"));
    for (what, text) in [
        ("no resources", "stack \"web\" {\non tag=\"web\"\n}\n".to_string()),
        ("a tag that nothing has", whole.replace("tag=\"web\"", "tag=\"wbe\"")),
        ("values that are not there", with("values \"values.yaml\"")),
        ("a template that fails", whole.replace("content=\"1\"", "content=\"{{ no.such }}\"")),
        ("half a file", whole.trim_end().trim_end_matches('}').to_string()),
    ] {
        repository.write("stacks/web/stack.kdl", &text);
        let ran = repository.run(&["apply", "--yes", "--json"]);
        assert_eq!((ran.code, there(&repository)), (1, 3), "{what}: {}", ran.all());
    }
    repository.write("stacks/web/stack.kdl", &with("values \"values.yaml\""));
    repository.write("stacks/web/values.yaml", "a: [1\n");
    assert_eq!((repository.run(&["apply", "--yes"]).code, there(&repository)), (1, 3), "values that cannot be read");
    std::fs::remove_dir_all(repository.path("stacks/web")).unwrap();
    let ran = repository.run(&["apply", "--yes", "--json"]);
    assert_eq!((ran.code, there(&repository)), (1, 3), "no stacks: {}", ran.all());
    let kinds = json(&ran)["hosts"][0]["error"]["kind"].clone();
    assert_eq!(kinds, "refused", "{}", ran.all());
}

#[test]
fn what_a_renamed_stack_leaves_goes_in_one_run() {
    let repository = repository(3);
    let text = std::fs::read_to_string(repository.path("stacks/web/stack.kdl")).unwrap();
    let website =
        |text: &str| repository.write("stacks/website/stack.kdl", &text.replace("\"web\" {", "\"website\" {"));
    std::fs::remove_dir_all(repository.path("stacks/web")).unwrap();
    website(&text);
    repository.assert_nothing_to_do();
    website(&text.replace("content=\"0\"", "content=\"new\""));
    repository.must(&["apply", "--yes"]);
    repository.assert_nothing_to_do();
    // The renamed stack alone, of whose resources one goes.
    website(&text.replace("file \"/srv/0\" content=\"0\"\n", ""));
    repository.must(&["apply", "--yes", "--stack", "website"]);
    assert_eq!(there(&repository), 2);
    repository.assert_nothing_to_do();
    let ledger = std::fs::read_to_string(repository.path(".sandbox/var/lib/reconcile/bounds/ledger/web")).unwrap();
    assert!(!ledger.contains("/srv/0") && ledger.contains("/srv/1"), "{ledger}");
}
