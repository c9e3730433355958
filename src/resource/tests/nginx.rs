use crate::resource::nginx::parse;

#[test]
fn what_nginx_refuses() {
    let cases = [
        ("server {****\n listen 80;\n}", "`****` is not a directive", 1),
        ("server {\n listen 80\n}", "`listen` is not ended by `;`", 2),
        ("server {\n listen 80;\n", "the block of `server` is never closed by `}`", 1),
        ("server {\n listen 80;\n}\n}", "unexpected `}`: no block is open here", 4),
        ("server {\n listen 80;;\n}", "unexpected `;`: no directive stands before it", 2),
        ("server {\n {\n}\n}", "unexpected `{`: no directive stands before it", 2),
        ("add_header A \"b;\n", "the quote \" is never closed", 1),
        ("add_header A \"b\"c;", "`c` follows a closing quote without a space", 1),
        ("listen 80", "`listen` is not ended by `;`", 1),
        ("http {\n -- x;\n}", "`--` is not a directive", 2),
    ];
    for (text, message, line) in cases {
        let mistake = parse(text).expect_err(text);
        assert_eq!(mistake.message, message, "{text}");
        assert_eq!(text[..mistake.offset].matches('\n').count() + 1, line, "{text}");
    }
}

#[test]
fn what_nginx_accepts() {
    let cases = [
        "",
        "# only a comment {",
        "user nginx;\nevents {}\nhttp { include mime.types; }",
        "map $http_upgrade $c { default upgrade; '' close; ~^/xy \"a;b\"; \"\" z; ~* q; }",
        "types { text/html html htm; * x; }",
        "location ~ \"^/a{2,3}$\" { return 301 https://$host${request_uri}x; }",
        "location ~* \\.(jpg|css)$ { expires 30d; }",
        "if ($host ~ \"^(www\\.)?x\") { return 403; }",
        "log_format main '$remote_addr \"$request\" ' '$status';",
        "content_by_lua_block { ngx.say(\"}{\" .. 'x') -- it's\n }",
        "proxy_set_header Connection 'upgrade';proxy_pass http://a;",
        "rewrite ^/a/(.*)$ /b/$1 last;",
        "\u{feff}server { listen [::]:80 default_server; }",
        "add_header A \"quoted \\\" inside\" always;",
        "set $x a\\;b;",
        "geo $g { default 0; 127.0.0.1/32 1; }",
        "server_name ~^(?<user>.+)\\.example\\.org$ \"\" _;",
    ];
    for text in cases {
        if let Err(mistake) = parse(text) {
            panic!("{text}: {}", mistake.message);
        }
    }
}

#[test]
fn words_are_as_nginx_takes_them() {
    let directives = parse("a 'b c' \"d\\\"e\" f$x${y}g # comment\n ; h { i; }").expect("valid");
    assert_eq!(directives[0].args, ["b c", "d\"e", "f$x${y}g"]);
    assert_eq!(directives[1].block.as_ref().map(Vec::len), Some(1));
}

#[test]
fn hostile_depth_is_refused() {
    let text = "a { ".repeat(100_000);
    assert!(parse(&text).expect_err("deep").message.contains("deeper"));
}
