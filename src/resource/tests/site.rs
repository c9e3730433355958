use super::{lower, lower_with};

const EVERYTHING: &str = r#"
compose "app" file="compose.yaml"
site "www.example.org" {
    server-name "example.org" "*.example.net"
    tls cert="/etc/ssl/a.crt" key="/etc/ssl/a.key" redirect-http=#true
    max-body "16M"
    gzip
    headers "security"
    header "X-Frame-Options" "DENY"
    header "X-Note" "say \"hi\"; ok"
    pool "api" {
        server "10.0.0.1:8080" weight=3 max-fails=2 fail-timeout="30s"
        server "10.0.0.2:8080" backup=#true
    }
    proxy "/" to="compose:app/web" read-timeout="2m" cache="10m"
    proxy "/api" to="pool:api" strip=#true websocket=#false {
        header "X-From" "api"
        set-header "Host" "api.internal"
    }
    redirect "/old" to="https://example.org/new"
    redirect "/blog/*" to="https://blog.example.org$request_uri" code=302
    expires "jpg" "css" for="30d"
    snippet "location = /ping {\n    return 200;\n}"
}
"#;

#[test]
fn everything_at_once() {
    let compose = "services:\n  web:\n    image: nginx\n    ports: [\"127.0.0.1:4321:80\"]\n";
    let outcome = lower_with(EVERYTHING, &[("compose.yaml", compose)]);
    let text = outcome.text("/etc/nginx/sites-available/www.example.org.conf");
    crate::resource::nginx::parse(&text).expect("valid for nginx");
    insta::assert_snapshot!("everything", text);
}

#[test]
fn files() {
    let outcome = lower("site \"www\" { root \"/var/www/my site\" spa=#true; expires \"js\" for=\"1d\"; }");
    insta::assert_snapshot!("files", outcome.text("/etc/nginx/sites-available/www.conf"));
}

#[test]
fn mistakes() {
    let outcome = lower(
        "unit \"go-api\" { exec \"/bin/a\"; listen 8080; }\nunit \"mute\" exec=\"/bin/b\"\n\
         site \"a;b\" { proxy \"/\" to=\"http://x\"; }\nsite \"../x\" { proxy \"/\" to=\"http://x\"; }\n\
         site \"c\" { proxy \"/\" to=\"unit:go-pai\"; }\nsite \"d\" { proxy \"/\" to=\"unit:mute\"; }\n\
         site \"e\" { proxy \"/\" to=\"pool:x\"; }\nsite \"f\" { proxy \"/a b\" to=\"http://x\"; }\n\
         site \"g\" { proxy \"/\" to=\"http://x;}\"; }\nsite \"h\"\nsite \"i\" { header \"A\" \"x\\ny\"; root \"/x\"; }\n\
         site \"j\" { snippet \"}\"; }\nsite \"k\" { root \"/x\"; file \"a\"; }\nsite \"l\" { headers \"secure\"; root \"/x\"; }\n\
         site \"m\" { listen \"80; evil\"; root \"/x\"; }\nsite \"n\" { proxy \"/\" to=\"nowhere\"; }\n\
         site \"o\" { tls cert=\"/a\"; root \"/x\"; }\nsite \"p\" { root \"/x\"; server-name \"a b\"; }\n",
    );
    insta::assert_snapshot!("site_mistakes", outcome.complaints());
}

#[test]
fn a_pool_over_the_hosts_with_a_tag() {
    let pool = |server: &str| {
        lower(&format!("site \"x\" {{ proxy \"/\" to=\"pool:p\"; pool \"p\" drain=\"10s\" {{ {server}; }}; }}"))
    };
    let path = "/etc/nginx/sites-available/x.conf";
    let text = |server: &str| -> Vec<String> {
        let text = pool(server).text(path);
        text.lines().filter(|line| line.contains("server 1") || line.contains("server [")).map(String::from).collect()
    };
    let lines = text("server tag=\"web\" port=8080 max-fails=1 fail-timeout=\"5s\"");
    assert_eq!(
        lines[..2],
        [
            "    server 192.0.2.1:8080 max_fails=1 fail_timeout=5s;",
            "    server 192.0.2.2:8080 max_fails=1 fail_timeout=5s;"
        ]
    );
    assert_eq!(lines.len(), 3);
    assert_eq!(text("server tag=\"web\" port=8080 var=\"private\"")[0], "    server [fd00::1]:8080;");
    // A plain address is known for the host it belongs to.
    let both = pool("server \"192.0.2.2:80\"; server \"198.51.100.1:80\"");
    let upstream = &both.one().wiring.pools[0];
    let members: Vec<String> = upstream.members.iter().map(|(host, at)| format!("{host} {at}")).collect();
    assert_eq!((members, upstream.servers, upstream.path.as_str()), (vec!["web-2 192.0.2.2:80".into()], 2, path));
    for (wrong, said) in [
        ("server tag=\"wbe\" port=80", "did you mean `web`?"),
        ("server tag=\"web\"", "`server` needs `port`"),
        ("server tag=\"web\" port=\"x\"", "`x` is not a port"),
        ("server tag=\"web\" port=80 var=\"public\"", "host web-1 has no text as variable `public`"),
    ] {
        let complaints = pool(wrong).complaints();
        assert!(complaints.contains(said), "{wrong}: {complaints}");
    }
}
