//! Names, contents and hosts that are not as one would like them.

use crate::kit::{Repo, any};

#[test]
fn g11_odd_names_and_contents_arrive_as_they_are() {
    let host = any();
    let repo = Repo::new("odd", &[&host]);
    host.sh("rm -f /pwned*");
    let names = [
        "with space",
        "it's",
        "a;touch /pwned1;b",
        "$(touch /pwned2)",
        "`touch /pwned3`",
        "*",
        "-rf",
        "ünï→名",
        "a&b|c<d>e",
        "#x",
        "~",
        "%s%n",
        "a\\\\b",
        "!x",
        "[x]",
    ];
    let contents: [(&str, Vec<u8>); 7] = [
        ("empty", Vec::new()),
        ("binary", (0..=255).collect()),
        ("newline", b"one\n\n\ntwo\n\n".to_vec()),
        ("no newline", b"one\ntwo".to_vec()),
        ("shell", b"$(touch /pwned4) `touch /pwned5`; touch /pwned6 \\ ' \" \t\r\n.\n[end]\nEOF\n".to_vec()),
        ("unicode", "zażółć gęślą → 名\u{0}\u{1b}[31m\n".into()),
        ("large", (0..1_048_576_u32).map(|n| u8::try_from(n * 7 % 251).unwrap_or_default()).collect()),
    ];
    let mut body = String::new();
    for name in names {
        let file = format!("file \"/srv/ID/{name}\" content=\"name\" mode=\"0640\" owner=\"www-data\"\n");
        body.push_str(&file);
    }
    for (name, bytes) in &contents {
        repo.write(&format!("stacks/one/{name}.bin"), bytes);
        let file = format!("file \"/srv/ID/{name}\" source=\"{name}.bin\"\n");
        body.push_str(&file);
    }
    body += "file \"/srv/ID/link; touch /pwned7\" link=\"to $(touch /pwned8) '\\\"\"\n";
    body += "unit \"ID-a\" { exec \"/bin/sh\" \"-c\" \"echo \\\"$0\\\" >/srv/odd/args; exec sleep 9999\" \"it's; $(touch /pwned9) \\\"x\\\" %n\"\nenv A=\"a b; $(touch /pwned10) 'c' \\\"d\\\" %h\" }\n";
    repo.stack("one", &body);
    repo.apply();
    repo.is_settled();
    for (name, bytes) in &contents {
        let sum = host.sh(&format!("sha256sum <'/srv/odd/{name}'"));
        assert!(sum.starts_with(&reconcile::base::digest::Digest::of(bytes).to_string()), "{name}");
    }
    let count = host.sh("cd /srv/odd; grep -rlx name . | wc -l; stat -c '%a %U' -- './*' ./-rf './with space'; readlink 'link; touch /pwned7'");
    let link = "to $(touch /pwned8) '\"";
    assert_eq!(count, format!("{}\n640 www-data\n640 www-data\n640 www-data\n{link}\n", names.len()));
    assert_eq!(
        host.sh("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID odd-a)/environ | grep ^A="),
        "A=a b; $(touch /pwned10) 'c' \"d\" %h\n"
    );
    host.until("[ -s /srv/odd/args ]");
    assert_eq!(host.sh("cat /srv/odd/args"), "it's; $(touch /pwned9) \"x\" %n\n");
    // They change, and they go.
    repo.stack("one", &body.replace("content=\"name\"", "content=\"changed\""));
    repo.apply();
    repo.is_settled();
    repo.stack("one", "directory \"/srv/ID\"");
    repo.apply_all_the_same();
    assert_eq!(host.sh("ls -A /srv/odd"), "args\n");
    assert_eq!(host.sh("ls /pwned* 2>/dev/null; true"), "");
}

#[test]
fn g09_what_stands_in_the_way_is_not_walked_over() {
    let host = any();
    let repo = Repo::new("way", &[&host]);
    host.sh("mkdir -p /srv/way/dir/full /srv/way-else; echo else >/srv/way-else/x; ln -s ../way-else/x /srv/way/link; ln -s ../way-else /srv/way/linked; echo a >/srv/way/file; mkfifo /srv/way/pipe");
    let picture = || host.picture("/srv/way /srv/way-else", "nginx");
    let before = picture();
    for (id, body) in [
        ("file:/srv/way/link", "file \"/srv/ID/link\" content=\"ours\""),
        ("file:/srv/way/dir", "file \"/srv/ID/dir\" content=\"ours\""),
        ("file:/srv/way/pipe", "file \"/srv/ID/pipe\" content=\"ours\""),
        ("directory:/srv/way/file", "directory \"/srv/ID/file\""),
        ("directory:/srv/way/linked", "directory \"/srv/ID/linked\" mode=\"0700\""),
    ] {
        repo.stack("one", body);
        assert!(!repo.plan().refusal(id).is_empty(), "{id}");
        repo.fail();
        picture().is_as(&before, id);
    }
    // Adopted or not, a full directory is never replaced by a file.
    repo.stack("one", "file \"/srv/ID/dir\" content=\"ours\"");
    let ran = repo.run(&["apply", "--yes", "--json", "--adopt", "file:/srv/way/dir"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    picture().is_as(&before, "a full directory");
    // A link that is adopted is replaced, and what it leads to stays.
    repo.stack("one", "file \"/srv/ID/link\" content=\"ours\"");
    repo.apply_with(&["--adopt", "file:/srv/way/link"]);
    repo.is_settled();
    assert_eq!(host.sh("cat /srv/way/link /srv/way-else/x; stat -c %F /srv/way/link"), "ourselse\nregular file\n");
    // Through a directory that is a link, as the administrator has laid it.
    repo.stack("one", "file \"/srv/ID/linked/new\" content=\"ours\"");
    repo.apply();
    repo.is_settled();
    assert_eq!(host.sh("cat /srv/way-else/new; stat -c %F /srv/way/linked"), "ourssymbolic link\n");
}

#[test]
fn g06_where_nothing_can_be_written_nothing_changes() {
    let host = any();
    let repo = Repo::new("full", &[&host]);
    let body =
        |content: &str| format!("file \"/srv/ID/a/x\" content=\"{content}\"\nfile \"/srv/ID/b/x\" source=\"big\"");
    repo.write("stacks/one/big", "small");
    repo.stack("one", &body("one"));
    host.sh("mkdir -p /srv/full/a /srv/full/b; mount -t tmpfs -o size=1m tmpfs /srv/full/b");
    repo.apply();
    let picture = || host.picture("/srv/full", "nginx");
    let before = picture();
    repo.write("stacks/one/big", vec![b'x'; 3 << 20]);
    repo.stack("one", &body("two"));
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["failed"], "{}", ran.out);
    picture().is_as(&before, "full disk");
    repo.write("stacks/one/big", "other");
    host.sh("mount -o remount,ro /srv/full/b");
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["failed"], "{}", ran.out);
    picture().is_as(&before, "read-only");
    host.sh("mount -o remount,rw /srv/full/b");
    repo.apply();
    repo.is_settled();
    host.sh("umount /srv/full/b");
}

#[test]
fn g04_sudo_and_other_shells_are_hosts_like_any() {
    for shell in ["/bin/bash", "/bin/dash", "/bin/lab-busybox"] {
        let host = crate::kit::free();
        host.sh("printf '#!/bin/sh\\nexec busybox sh \"$@\"\\n' >/bin/lab-busybox; chmod 755 /bin/lab-busybox; grep -q lab-busybox /etc/shells || echo /bin/lab-busybox >>/etc/shells");
        let repo = Repo::new("shell", &[&host]);
        repo.write(
            &format!("hosts/{}.kdl", host.name),
            host.kdl().replace("user=\"root\"", "user=\"deploy\"").replace("tags", "sudo\ntags"),
        );
        host.sh(&format!("usermod -s {shell} deploy"));
        repo.stack("one", "file \"/srv/ID/x\" content=\"x\" mode=\"0600\" owner=\"www-data\"\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\"\nsite \"ID.test\" { listen \"127.0.0.1:7401\"\nroot \"/srv/ID\" }");
        repo.apply();
        repo.is_settled();
        assert_eq!(
            host.sh("stat -c '%a %U' /srv/shell/x; systemctl is-active shell-a"),
            "600 www-data\nactive\n",
            "{shell}"
        );
        repo.drop_stack("one");
        repo.stack("two", "directory \"/srv/ID\"");
        repo.apply();
        repo.is_settled();
        host.sh("usermod -s /bin/bash deploy");
    }
}
