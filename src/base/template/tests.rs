use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::context;

use super::{Rendered, Scope, Templates, quote_nginx, quote_shell, quote_systemd};
use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::secret::Secret;

const SECRET: &str = "hunter2";

fn scope() -> Scope {
    let names =
        serde_json::json!({ "domain": "example.org", "n": 3, "yes": true, "nothing": null, "deep": { "port": 80 } });
    let secrets = [("db".to_string(), Secret::new(SECRET.into()).into())].into();
    Scope::new(names.as_object().cloned().unwrap_or_default(), secrets, None)
}

fn templates(own: &[(&str, &str)]) -> Result<Templates, Vec<Problem>> {
    let own: BTreeMap<String, Arc<Source>> =
        own.iter().map(|(name, text)| ((*name).to_string(), Source::new(format!("templates/{name}"), *text))).collect();
    Templates::new(own)
}

fn text(raw: &str) -> Text {
    let source = Source::new("stack.kdl", format!("node \"{raw}\"\n"));
    Text { raw: raw.into(), span: Span::new(&source, 5, raw.len() + 2) }
}

fn render(raw: &str) -> Result<Rendered, Box<Problem>> {
    templates(&[]).expect("valid").render_text(&text(raw), &scope())
}

fn rendered(raw: &str) -> String {
    render(raw).expect("no problem").text
}

#[test]
fn values_are_written_as_configuration_wants_them() {
    assert_eq!(rendered("{{ domain }} {{ n }} {{ yes }} {{ not yes }} {{ deep.port }}"), "example.org 3 true false 80");
    assert_eq!(rendered("no template, even with } and %"), "no template, even with } and %");
    assert_eq!(rendered("{{ '<a&b>' }}"), "<a&b>");
    assert_eq!(rendered("{% if yes %}a{% endif %}\\n"), "a\\n");
    let none = render("{{ nothing }}").expect_err("refused");
    assert!(none.message.contains("none"), "{}", none.message);
}

#[test]
fn undefined_names_are_problems_with_a_place_and_a_suggestion() {
    let cases = [
        ("x {{ domian }}", "`domian` is not defined", Some("did you mean `domain`?"), 12),
        ("{{ deep.prot }}", "`deep.prot` is not defined", Some("did you mean `port`?"), 10),
        ("{{ secret.bd }}", "there is no secret called `bd`", Some("did you mean `db`?"), 10),
        ("{{ domain | upper ~ who }}", "`who` is not defined", None, 0),
    ];
    for (raw, message, hint, column) in cases {
        let problem = render(raw).expect_err(raw);
        assert_eq!(problem.message, message);
        if hint.is_some() {
            assert_eq!(problem.hint.as_deref(), hint);
        }
        let (line, at) = problem.places[0].0.line_column();
        assert_eq!(line, 1, "{raw}");
        assert!(column == 0 || at.abs_diff(column) <= 1, "{raw}: column {at}");
    }
}

#[test]
fn a_string_with_escapes_is_shown_whole() {
    let source = Source::new("stack.kdl", "node \"a\\n{{ nope }}\"\n");
    let span = Span::new(&source, 5, 15);
    let problem =
        templates(&[]).expect("valid").render_text(&Text { raw: "a\n{{ nope }}".into(), span: span.clone() }, &scope());
    assert_eq!(problem.expect_err("undefined").places[0].0, span);
}

#[test]
fn secrets_taint_whatever_they_touch() {
    for raw in [
        "{{ secret.db }}",
        "{{ 'a' ~ secret.db ~ 'b' }}",
        "{{ secret.db | upper | replace('H', 'x') }}",
        "{% set x = secret.db %}{{ x | length }}",
        "{% if secret.db == 'no' %}a{% else %}b{% endif %}",
        "{{ secret['db'] }}",
        "{{ 'a' if secret.db else 'b' }}",
    ] {
        assert!(render(raw).expect(raw).secret, "{raw}");
    }
    assert!(!render("{{ domain }}").expect("fine").secret);
    assert!(!format!("{:?}", render("{{ secret.db }}")).contains(SECRET));
    assert!(render("{{ secret }}").is_err(), "all of them at once are no value");
}

#[test]
fn secrets_are_in_no_error() {
    for raw in [
        "{{ secret.db | int }}",
        "{{ secret.db + 1 }}",
        "{{ secret.db.nope.nope }}",
        "{{ secret.db() }}",
        "{{ (secret.db ~ '\\n') | systemd_quote }}",
        "{{ [] [secret.db] }}",
        "{{ {}[secret.db].x }}",
        "{% include secret.db %}",
        "{{ domain | format(secret.db) | nosuch }}",
        "{{ secret.db | indent('x') }}",
    ] {
        if let Err(problem) = render(raw) {
            assert!(!format!("{problem:?}").contains(SECRET), "{raw}: {problem:?}");
        }
    }
}

#[test]
fn a_secret_in_the_context_taints_the_template() {
    let templates = templates(&[("a.j2", "{{ value }}{{ value + 1 }}"), ("b.j2", "{{ value }}")]).expect("valid");
    let origin = text("x").span;
    let context = || context! { value => SECRET };
    assert!(templates.render_with("b.j2", &context(), true, &scope(), &origin).expect("fine").secret);
    let problem = templates.render_with("a.j2", &context(), true, &scope(), &origin).expect_err("a sum of text");
    assert!(!format!("{problem:?}").contains(SECRET), "{problem:?}");
}

#[test]
fn unknown_facts_are_asked_for_and_known_ones_used() {
    for raw in [
        "{{ facts.cpus }}",
        "{{ facts.cpus * 2 }}",
        "{{ facts.a.b.c | int }}",
        "{% for x in facts.disks %}{% endfor %}",
        "{{ facts['os'] }}",
    ] {
        assert!(render(raw).expect(raw).needs_facts, "{raw}");
    }
    let known = Scope { facts: Some(serde_json::json!({ "cpus": 4 })), ..scope() };
    let templates = templates(&[]).expect("valid");
    let done = templates.render_text(&text("{{ facts.cpus * 2 }}"), &known).expect("fine");
    assert_eq!((done.text.as_str(), done.needs_facts), ("8", false));
    let missing = templates.render_text(&text("{{ facts.cpu }}"), &known).expect_err("undefined");
    assert_eq!(missing.hint.as_deref(), Some("did you mean `cpus`?"));
}

#[test]
fn problems_in_templates_name_the_template_and_the_line_that_used_it() {
    let templates = templates(&[("a.j2", "{% include 'b.j2' %}\n"), ("b.j2", "one\n  {{ nope }}\n")]).expect("valid");
    let problem = templates.render("a.j2", context! {}, &scope(), &text("x").span).expect_err("undefined");
    let places: Vec<String> = problem.places.iter().map(|(span, _)| span.to_string()).collect();
    assert_eq!(places, ["templates/b.j2:2:6", "stack.kdl:1:6"]);
    let absent = templates.render("systemd/servce.j2", context! {}, &scope(), &text("x").span).expect_err("absent");
    assert_eq!(absent.hint.as_deref(), Some("did you mean `systemd/service.j2`?"));
}

#[test]
fn own_templates_win_and_their_syntax_is_checked() {
    let own = templates(&[("systemd/timer.j2", "mine {{ domain }}")]).expect("valid");
    let done = own.render("systemd/timer.j2", context! {}, &scope(), &text("x").span).expect("fine");
    assert_eq!(done.text, "mine example.org");
    let problems = templates(&[("a.j2", "fine\n{% if %}\n")]).err().expect("broken");
    assert_eq!(problems[0].places[0].0.path(), "templates/a.j2");
    assert_eq!(problems[0].places[0].0.line_column().0, 2);
}

#[test]
fn endless_work_is_stopped() {
    let problem =
        render("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}").expect_err("stopped");
    assert!(problem.message.contains("does not come to an end"), "{}", problem.message);
    render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").expect_err("stopped");
}

#[test]
fn quoting() {
    let systemd = [("a=b", "a=b"), ("A=b c", "\"A=b c\""), ("50%", "50%%"), ("a\"b\\", "\"a\\\"b\\\\\""), ("", "\"\"")];
    for (value, expected) in systemd {
        assert_eq!(quote_systemd(value).expect("fine"), expected);
    }
    quote_systemd("a\nUser=root").expect_err("a line break");
    let nginx = [
        ("a", "a"),
        ("a;b", "\"a;b\""),
        ("}", "\"}\""),
        ("$host x", "\"$host x\""),
        ("\\\"", "\"\\\\\\\"\""),
        ("", "\"\""),
    ];
    for (value, expected) in nginx {
        assert_eq!(quote_nginx(value).expect("fine"), expected);
    }
    quote_nginx("a\r").expect_err("a line break");
    let shell = [("a", "a"), ("it's", "'it'\\''s'"), ("$(x)", "'$(x)'"), ("", "''")];
    for (value, expected) in shell {
        assert_eq!(quote_shell(value), expected);
    }
    assert_eq!(
        rendered("{{ deep | json_quote }} {{ 'a: #' | yaml_quote }} {{ yes | sh_quote }}"),
        "{\"port\":80} \"a: #\" true"
    );
    assert_eq!(rendered("{{ 'a b' | systemd_quote }}{{ 1 | nginx_quote }}"), "\"a b\"1");
}
