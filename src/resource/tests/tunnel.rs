use super::{lower, lower_with};
use crate::resource::state::PathState;

#[test]
fn options_and_a_second_tunnel() {
    let outcome = lower(
        r#"tunnel "office" {
    id "abc"
    credentials-file "/root/abc.json"
    route "ssh.example.org" to="ssh://localhost:22"
    route "app.example.org" path="/api/.*" to="https://10.0.0.1" no-tls-verify=#true origin-host="app.internal"
    route "*.example.org" to="http_status:503"
    otherwise "http://127.0.0.1:80"
}"#,
    );
    insta::assert_snapshot!("office", outcome.text("/etc/cloudflared/office.yml"));
    assert!(outcome.one().state.units.contains_key("cloudflared-office.service"));
}

#[test]
fn credentials_are_a_secret_whatever_they_are() {
    let outcome = lower("tunnel \"main\" { id \"abc\"; credentials \"{}\"; route \"a.b\" to=\"http://x:1\"; }");
    let state = outcome.one().state.paths.get(camino::Utf8Path::new("/etc/cloudflared/abc.json"));
    let Some(PathState::File { content, mode, .. }) = state else { panic!("a file") };
    assert!(content.secret);
    assert_eq!(*mode, 0o600);
}

#[test]
fn mistakes() {
    let files = [
        ("last.yml", "ingress:\n  - hostname: a\n    service: http://x\n"),
        ("early.yml", "ingress:\n  - service: http_status:404\n  - hostname: a\n    service: http://x\n"),
        ("broken.yml", "ingress: [\n"),
    ];
    let outcome = lower_with(
        "tunnel \"a\" file=\"last.yml\"\ntunnel \"b\" file=\"early.yml\"\ntunnel \"c\" file=\"broken.yml\"\n\
         tunnel \"d\" id=\"x\"\ntunnel \"e\" { route \"a.b\" to=\"http://x\"; }\n\
         tunnel \"f\" { id \"x\"; route \"a.b\" to=\"http://x\"; route \"a.b\" to=\"http://y\" path=\"/z\"; }\n\
         tunnel \"g\" { id \"x\"; route \"a.b\" to=\"site:none\"; }\ntunnel \"h\\n\" { id \"x\"; route \"a.b\" to=\"http://x\"; }\n\
         tunnel \"i\" { id \"x\"; route \"a.b\" to=\"http://x\"; credentials \"{}\"; credentials-file \"/x\"; }\n",
        &files,
    );
    insta::assert_snapshot!("tunnel_mistakes", outcome.complaints());
}
