use super::lower_with;
use crate::resource::compose_build::Built;

const COMPOSE: &str = "services:
  base: {build: base, image: acme/base, profiles: [build]}
  web:
    build: {context: web, args: [\"WORD=${WORD}\", PLAIN], target: final}
    environment: {NAME: \"${NAME}\"}
";

/// A project with a service on a base of its own.
const FILES: [(&str, &str); 7] = [
    ("compose.yaml", COMPOSE),
    ("base/Dockerfile", "FROM debian:13\nCOPY tool /tool\n"),
    ("base/tool", "x"),
    ("web/Dockerfile", "FROM acme/base AS final\nCOPY . /web\n"),
    ("web/.dockerignore", "notes\n"),
    ("web/text", "one"),
    ("web/notes", "x"),
];

fn built(files: &[(&str, &str)], more: &str) -> Vec<Built> {
    let stack = format!(
        "compose \"app\" {{ file \"compose.yaml\"; builder \"web-2\"; env NAME=\"x\" WORD=\"a\" PLAIN=\"p\"; {more} }}"
    );
    let outcome = lower_with(&stack, files);
    assert_eq!(outcome.complaints(), "");
    outcome.one().state.project.as_ref().expect("a project").built.clone()
}

/// The image of a service, with some text in some files in place of another one.
fn image(changed: &[(&str, &str, &str)]) -> String {
    let texts: Vec<(&str, String)> = FILES
        .iter()
        .map(|(path, text)| {
            let mine = changed.iter().filter(|(of, _, _)| of == path);
            (*path, mine.fold((*text).to_string(), |text, (_, from, to)| text.replace(from, to)))
        })
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
    built(&files, "")[0].recipe.image.clone()
}

#[test]
fn an_image_has_another_name_for_whatever_else_it_is_made_from() {
    let first = image(&[]);
    assert!(first.starts_with("reconcile.invalid/infra/app/web:"), "{first}");
    for (path, from, to) in [
        ("web/text", "one", "two"),
        ("web/Dockerfile", "/web", "/srv"),
        ("web/.dockerignore", "notes", "nothing"),
        ("base/tool", "x", "y"),
        ("base/Dockerfile", "13", "12"),
        ("compose.yaml", "${WORD}", "b"),
        ("compose.yaml", "PLAIN", "\"PLAIN=q\""),
        ("compose.yaml", "target: final", "target: other"),
        ("compose.yaml", "environment:", "platform: linux/arm64\n    environment:"),
    ] {
        assert_ne!(image(&[(path, from, to)]), first, "{path}: {from} → {to}");
    }
    for (path, from, to) in [
        ("web/notes", "x", "y"),
        ("compose.yaml", "NAME: ", "OTHER: "),
        ("compose.yaml", "    environment", "    restart: always\n    environment"),
    ] {
        assert_eq!(image(&[(path, from, to)]), first, "{path}: {from} → {to}");
    }
}

#[test]
fn what_an_image_begins_with_is_built_before_it() {
    let built = built(&FILES, "");
    assert_eq!(built.len(), 1, "a service that does not run needs no image of its own");
    let order: Vec<String> = built[0].recipe.in_order().iter().map(|recipe| recipe.service.clone()).collect();
    assert_eq!(order, ["base", "web"]);
    assert_eq!(built[0].recipe.bases[0].alias.as_deref(), Some("acme/base"));
    let described = &built[0].recipe.description["services"]["web"]["build"];
    let expected = serde_json::json!(
        {"args": {"PLAIN": "p", "WORD": "a"}, "context": "./stacks/demo/web", "target": "final"}
    );
    assert_eq!(described, &expected);
    assert!(built[0].recipe.files.contains_key(camino::Utf8Path::new("stacks/demo/web/text")));
    assert!(!built[0].recipe.files.contains_key(camino::Utf8Path::new("stacks/demo/web/notes")));
}

#[test]
fn dollars_are_for_compose_once_only() {
    let files =
        [("compose.yaml", "services: {web: {build: {dockerfile_inline: \"ENV A=$${B}\", context: w}}}"), ("w/x", "x")];
    let recipe = &built(&files, "")[0].recipe;
    assert_eq!(recipe.description["services"]["web"]["build"]["dockerfile_inline"], "ENV A=$${B}");
}

#[test]
fn those_that_run_an_image_get_its_name_and_not_what_it_is_made_from() {
    let outcome = lower_with(
        "compose \"app\" { file \"compose.yaml\"; builder \"web-1\"; env NAME=\"x\" WORD=\"a\" PLAIN=\"p\" }",
        &FILES,
    );
    let paths: Vec<&str> = outcome.one().state.paths.keys().map(|path| path.as_str()).collect();
    assert_eq!(paths, ["/srv/app/.env", "/srv/app/compose.reconcile.yaml", "/srv/app/compose.yaml"]);
}

#[test]
fn mistakes() {
    let with = |build: &str, builder: &str| {
        let compose = format!("services:\n  web:\n    build: {build}\n");
        let stack = format!(
            "compose \"app\" {{ file \"compose.yaml\"; builder \"{builder}\"; env TOKEN=\"{{{{ secret.db }}}}\" }}"
        );
        lower_with(&stack, &[("compose.yaml", &compose), ("web/Dockerfile", "FROM x")]).complaints()
    };
    let all = [
        with("web", "web-9"),
        with("wep", "web-1"),
        with("{context: web, args: {T: \"${TOKEN}\"}}", "web-1"),
        with("{context: web, secrets: [x]}", "web-1"),
        with("{context: web, additional_contexts: {x: \"service:web\"}}", "web-1"),
        lower_with(
            "compose \"app\" { file \"c.yaml\"; builder \"web-1\" }",
            &[("c.yaml", "services: {a: {image: x}}")],
        )
        .complaints(),
    ];
    insta::assert_snapshot!("compose_build_mistakes", all.join("\n"));
}

#[test]
fn both_places_of_a_service_run_what_the_builder_makes() {
    let files = [("compose.yaml", "services: {web: {build: web, ports: [\"80:80\"]}}"), ("web/Dockerfile", "FROM x")];
    let stack = "compose \"app\" { file \"compose.yaml\"; builder \"builder-1\"
        rollout \"blue-green\" service=\"web\" { ports 8081 8082; health http=\"/\" } }";
    let outcome = lower_with(stack, &files);
    assert_eq!(outcome.complaints(), "");
    let built = &outcome.one().state.project.as_ref().expect("a project").built[0];
    assert_eq!(built.services, ["web-blue", "web-green"]);
}
