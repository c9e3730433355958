use crate::resource::testing::lower;

const STACK: &str = r#"
directory "/srv/app" mode="0750" owner="www-data"
file "/etc/app.conf" { content "domain = {{ domain }}\n"; on-change reload="go-api" }
unit "go-api" {
    description "Go API"
    exec "/srv/app/main"
    user "www-data"
    workdir "/srv/app"
    env PORT="8080" GREETING="hello world"
    restart "always"
    restart-sec 5
    after "network.target"
    listen 8080
    health http="/health" within="10s"
}
site "api.{{ domain }}" {
    listen "127.0.0.1:8081"
    proxy "/" to="unit:go-api"
    headers "security"
}
"#;

#[test]
fn the_first_system() {
    let outcome = lower(STACK);
    insta::assert_snapshot!(outcome.text("/etc/systemd/system/go-api.service"));
    insta::assert_snapshot!(outcome.text("/etc/nginx/sites-available/api.example.org.conf"));
}
