//! The host programs under every shell they must run under.
#![allow(missing_docs)]

#[path = "programs/journal.rs"]
mod journal;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use reconcile::base::digest::Digest;
use reconcile::base::id::RepoId;
use reconcile::host::answer;
use reconcile::host::observation::{Observation, Seen, Thing};
use reconcile::host::program::Program;
use reconcile::host::transport::{Connection, Nobody, Target};
use reconcile::observe::{Place, Questions};

const SHELLS: [&str; 3] = ["dash -c", "bash -c", "busybox sh -c"];

async fn ask(shell: &str, questions: &Questions, place: &Place) -> Observation {
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    let request = questions.to_request(place, Some(&RepoId::new("test").unwrap()));
    let mut exchange = Program::Observe.exchange(&request, false, Duration::from_secs(20));
    exchange.command = exchange.command.replacen("sh -c", shell, 1);
    let output = connection.run(exchange, None).await.unwrap();
    assert_eq!(output.status, Ok(0), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    place.translate(answer::parse(&output.stdout).unwrap())
}

#[tokio::test]
async fn every_shell_finds_the_same() {
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    let mut answers = Vec::new();
    for shell in SHELLS {
        let mut exchange = Program::Discover.exchange(b"", false, Duration::from_secs(20));
        exchange.command = exchange.command.replacen("sh -c", shell, 1);
        let output = connection.run(exchange, None).await.unwrap();
        assert_eq!((output.status, String::from_utf8_lossy(&output.stderr).as_ref()), (Ok(0), ""), "{shell}");
        assert!(output.stdout.ends_with(b"[end]\n"), "{shell}");
        answers.push(output.stdout);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn every_shell_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let odd = "odd name; $(touch pwned) 'x' \"y\" *";
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc").join(odd), "hello\n").unwrap();
    std::fs::set_permissions(root.join("etc").join(odd), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/else where", root.join("etc/link")).unwrap();
    symlink("nowhere", root.join("etc/dangling")).unwrap();
    let place = Place { root: Some(root.clone()) };
    let path = |name: &str| Utf8Path::new("/etc").join(name);
    let mut questions = Questions {
        contents: BTreeSet::from([path(odd)]),
        paths: [odd, "link", "dangling", "missing"].iter().map(|name| path(name)).collect(),
        facts: true,
        ..Questions::default()
    };
    questions.paths.insert("/etc".into());
    let mut answers = Vec::new();
    for shell in SHELLS {
        let mut seen = ask(shell, &questions, &place).await;
        let Some(Seen::Present(file)) = seen.paths.get(&path(odd)) else { panic!("{shell}: {:?}", seen.paths) };
        assert_eq!(file.thing, Thing::File(Some(Digest::of(b"hello\n"))), "{shell}");
        assert_eq!((file.mode, file.size), (0o640, 6), "{shell}");
        let target = |name: &str| match &seen.paths[&path(name)] {
            Seen::Present(link) => link.thing.clone(),
            other => panic!("{shell}: {other:?}"),
        };
        assert_eq!(target("link"), Thing::Link("/else where".into()), "{shell}");
        assert_eq!(target("dangling"), Thing::Link("nowhere".into()), "{shell}");
        assert_eq!(seen.paths[&path("missing")], Seen::Absent, "{shell}");
        assert_eq!(seen.contents[&path(odd)], b"hello\n", "{shell}");
        assert!(!root.join("pwned").exists() && !Utf8Path::new("pwned").exists(), "{shell}");
        assert_eq!(seen.state, root.join("var/lib/reconcile"), "{shell}");
        seen.facts = None;
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn ten_thousand_paths_are_one_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let place = Place { root: Some(root.clone()) };
    std::fs::create_dir_all(root.join("srv")).unwrap();
    let paths: BTreeSet<Utf8PathBuf> = (0..10_000).map(|n| format!("/srv/file-{n}").into()).collect();
    for path in paths.iter().step_by(2) {
        std::fs::write(place.real(path), path.as_str()).unwrap();
    }
    let questions = Questions { paths: paths.clone(), ..Questions::default() };
    let seen = ask("sh -c", &questions, &place).await;
    assert_eq!(seen.paths.len(), 10_000);
    for (index, path) in paths.iter().enumerate() {
        match (index % 2, &seen.paths[path]) {
            (0, Seen::Present(file)) => assert_eq!(file.digest(), Some(Digest::of(path.as_str().as_bytes()))),
            (1, Seen::Absent) => {}
            (_, other) => panic!("{path}: {other:?}"),
        }
    }
}

/// Runs functions of `apply.sh` as the program itself does: with TERM ignored, and IFS a newline.
fn in_apply(shell: &str, script: &str) -> (String, Duration) {
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/src/host/programs");
    let dir = tempfile::tempdir().unwrap();
    // Its own `timeout`, where the shell is busybox's.
    if shell.starts_with("busybox") {
        symlink("/bin/busybox", dir.path().join("timeout")).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let script = format!(
        ". {programs}/common.sh; . {programs}/checks.sh; . {programs}/planned.sh; . {programs}/receive.sh; . {programs}/debts.sh; . {programs}/paths.sh; . {programs}/revert.sh; . {programs}/apply.sh; . {programs}/build.sh; run_dir={}\ntrap '' TERM\n{script}",
        dir.path().display()
    );
    let begun = std::time::Instant::now();
    let mut words = shell.split(' ');
    let mut command = std::process::Command::new(words.next().unwrap());
    let output = command.args(words).arg(script).env("PATH", path).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), begun.elapsed())
}

#[test]
fn a_command_ends_at_its_deadline_whatever_it_ignores() {
    let tries = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            let (said, took) = in_apply(shell, "run_command 1 sleep 60 || printf 'ended\\n'");
            assert_eq!(said, "ended\n", "{shell}");
            assert!(
                took < Duration::from_secs(5),
                "{shell}: TERM reaches what we start, though we ignore it: {took:?}"
            );
            let stubborn = "trap '' TERM; while :; do sleep 1; done";
            let (said, took) = in_apply(shell, &format!("run_command 1 sh -c \"{stubborn}\" || printf 'ended\\n'"));
            assert_eq!(said, "ended\n", "{shell}");
            assert!(took < Duration::from_secs(30), "{shell}: {took:?}");
            let (said, _) =
                in_apply(shell, "run_command 5 false && printf 'well\\n'; run_command 5 true && printf 'well\\n'");
            assert_eq!(said, "well\n", "{shell}: what it ends with is heard");
        })
    });
    for shell in tries {
        shell.join().unwrap();
    }
}

#[test]
fn what_arrives_is_waited_for_and_a_link_that_is_silent_is_not() {
    let tries = SHELLS.map(|shell| {
        std::thread::spawn(move || {
            // Whatever comes in pieces, and takes longer than one may wait for the next, arrives.
            let set = "exec 4>&1; state=$run_dir repo=r run=1 stages='' patience=2; run_dir=$state/r/run/1
                mkdir -p $state/r/run; x=$state/x; printf hello >$x; tar -C / -cf $state/tar ${x#/}; rm $x
                pieces() { for n in 0 1 2 3 4 5 6 7; do dd if=$state/tar bs=1280 skip=$n count=1 2>/dev/null; sleep 0.6; done; }\n";
            let (said, took) = in_apply(shell, &format!("{set} pieces | {{ receive && cat $x; }}"));
            assert_eq!(said, "hello", "{shell}");
            assert!(took > Duration::from_secs(4), "{shell}: {took:?}");
            let silent = "{ dd if=$state/tar bs=700 count=1 2>/dev/null; sleep 8; }";
            let waits = "{ begun=$(now); receive; [ $(($(now) - begun)) -gt 6 ] || printf 'over in time\\n'; }";
            let (said, _) = in_apply(shell, &format!("{set} {silent} | {waits}"));
            assert_eq!(said, "broken the archive did not arrive whole\nover in time\n", "{shell}");
            // What is to be built there is not waited for either, and nothing of it stays.
            let begin = "printf 'state %s\\nrepo r\\nwait 0\\ntar\\n' $state";
            let ends = "{ (build); ls $state/r/build; flock -n $state/r/build/lock printf 'free\\n'; }";
            let (said, took) = in_apply(shell, &format!("{set} {{ {begin}; {silent}; }} | {ends}"));
            assert_eq!(said, "broken the files did not arrive whole\nlock\nreceive\nfree\n", "{shell}");
            assert!(took < Duration::from_secs(30), "{shell}: {took:?}");
        })
    });
    for shell in tries {
        shell.join().unwrap();
    }
}

#[test]
fn what_was_held_since_the_plan_is_not_done_and_a_hold_runs_out() {
    let holds =
        [("-\t1\tme", false), ("99999999999\t1\tme", false), ("", false), ("garbled", false), ("100\t1\tme", true)];
    for shell in SHELLS {
        for (line, free) in holds {
            let script = format!(
                "exec 4>&1; state=$run_dir repo=r dir=$run_dir ledger='' ledger_sum=x; mkdir -p $state/r/hold; true >$dir/sums\n\
                printf '%s\\n' '{line}' >$state/r/hold/web; still_as_planned other && still_as_planned web && printf 'free\\n'"
            );
            let (said, _) = in_apply(shell, &script);
            assert_eq!(said, if free { "free\n" } else { "stale the hold of web\n" }, "{shell}: {line}");
        }
    }
}

#[test]
fn g07_every_shell_puts_a_new_directory_in_its_place_and_takes_it_away() {
    let set = "cd $run_dir; mkdir -p stage/0/new/in; printf ours >stage/0/new/in/file; output=$run_dir/output
        at=$run_dir/stage/0/new is=$run_dir/new; tree=tree$tab$at$tab$is$tab$is$tab$is/in within=within$tab$at$tab$is$tab$is/in/file
        back() { undo_step \"$within\" && undo_step \"$tree\" && printf 'back\n'; }\n";
    for shell in SHELLS {
        let says = |script: &str| in_apply(shell, &format!("{set}{script}; find new stage 2>/dev/null | sort")).0;
        let stays = "stage\nstage/0\nstage/0/new\nstage/0/new/in\nstage/0/new/in/file\n";
        let came = "new\nnew/in\nnew/in/file\nstage\nstage/0\n";
        assert_eq!(says("do_step \"$tree\" && do_step \"$within\""), came, "{shell}");
        assert_eq!(says("do_step \"$tree\"; do_step \"$tree\""), came, "{shell}: once more");
        assert_eq!(says("do_step \"$tree\"; back; back"), "back\nback\nstage\nstage/0\n", "{shell}");
        assert_eq!(says("mkdir new; do_step \"$tree\""), came, "{shell}: an empty one is nobody's loss");
        let theirs =
            "mkdir -p new/in; printf theirs >new/in/file; do_step \"$tree\" || back; cat new/in/file; printf '\\n'";
        assert_eq!(says(theirs), format!("back\ntheirs\nnew\nnew/in\nnew/in/file\n{stays}"), "{shell}");
        let mixed = "do_step \"$tree\"; printf theirs >new/other; back";
        assert_eq!(says(mixed), "back\nnew\nnew/other\nstage\nstage/0\n", "{shell}");
        let lost = "rm -rf stage/0/new; do_step \"$tree\" || printf 'lost\n'";
        assert_eq!(says(lost), "lost\nstage\nstage/0\n", "{shell}");
    }
}

/// A transaction `t` of run 1, which replaces `a` and brings `b`; both wait in `top/.reconcile-1`.
const TRANSACTION: &str = r#"exec 4>&1
    state=$run_dir repo=r run=1 top=$run_dir/top run_dir=$run_dir/r/run/1 extent=stack begun='' confirm=0 last='' stuck=''
    dir=$run_dir/stack/t stage=$top/.reconcile-1
    mkdir -p $dir/owed $state/r/owed $state/r/ledger $stage/0 $stage/0.old
    for name in unmake undo undo.before unturn ledger.before ledger.after needs paths stat sums links parting emptied; do
      true >$dir/$name
    done
    for name in order extent over; do printf 't\n' >$run_dir/$name; done
    printf '%s\nnone\n' $state/r/ledger/t >$dir/ledger
    printf 'staged\n' >$dir/phase
    printf 'former' >$top/a; printf 'new' >$stage/0/a; printf 'new' >$stage/0/b
    keep=keep$tab$stage/0.old$tab$top/a move=move$tab$top$tab$stage/0.old$tab$stage/0/a$tab$stage/0/b
    printf '%s\n' "durable$tab$stage/0/a" "$keep" "$move" "sync$tab$top$tab$stage/0/gone$tab$stage/0/too" >$dir/steps
    finds() { for name in a b; do [ ! -f $top/$name ] || printf '%s %s\n' $name "$(cat $top/$name)"; done; }
"#;

#[test]
fn g06_what_is_kept_no_longer_is_not_taken_away() {
    let says = |shell: &str, script: &str| {
        let said = in_apply(
            shell,
            &format!(
                "{TRANSACTION}{script}\nrevert t 4>$state/said\nsed \"s|$top/||; s|$stage/||\" $state/said; finds"
            ),
        )
        .0;
        said.replace("reverting t\n", "")
    };
    let gone = "| a stays as it is: its former version is no longer in 0.old\n";
    for shell in SHELLS {
        let went_well = "do_step \"$keep\"; do_step \"$move\"";
        assert_eq!(says(shell, went_well), "outcome t rolled-back\na former\n", "{shell}");
        let dead = "do_step \"$keep\"; do_step \"$move\"; revert t 4>/dev/null; revert t 4>/dev/null";
        assert_eq!(says(shell, dead), "outcome t rolled-back\na former\n", "{shell}: as often as one likes");
        // Somebody has cleared away what looked like rubbish.
        let before = "rm -rf $stage";
        assert_eq!(says(shell, before), format!("{gone}outcome t failed\na former\n"), "{shell}");
        let after = "do_step \"$keep\"; do_step \"$move\"; rm -rf $stage";
        assert_eq!(says(shell, after), format!("{gone}outcome t failed\na new\n"), "{shell}");
        let links = "do_step \"$keep\"; rm $top/a $stage/0/a; ln -s nowhere $top/a; rm -rf $stage";
        assert_eq!(says(shell, links), format!("{gone}outcome t failed\n"), "{shell}: a link to nothing is something");
        let came = "printf '%s\\n' \"came$tab$stage/0.old$tab$top/b\" \"$move\" >$dir/steps; printf theirs >$top/b; rm -rf $stage";
        let stays = "| b stays as it is: its former version is no longer in 0.old\noutcome t failed\nb theirs\n";
        assert_eq!(says(shell, came).replace("a former\n", ""), stays, "{shell}: what came with a package");
        let removed = "do_step \"$keep\"; rm -rf $top/a $stage";
        assert_eq!(says(shell, removed), format!("{gone}outcome t failed\n"), "{shell}");
        // Where there are no hard links, a copy that is cut off is none.
        let no_links = "ln() { return 1; }\ncp() { for to; do :; done; printf fo >$to/a; return 1; }\ndo_step \"$keep\"; unset -f cp ln";
        assert_eq!(says(shell, no_links), "outcome t rolled-back\na former\n", "{shell}");
        let copies = "ln() { return 1; }\ndo_step \"$keep\"; do_step \"$move\"";
        assert_eq!(says(shell, copies), "outcome t rolled-back\na former\n", "{shell}");
    }
}

#[test]
fn g06_the_journal_says_nothing_that_is_not_on_the_disk() {
    let logs = "sync() { for path; do printf '%s %s\n' ${path##*/} $(tail -n 1 $dir/phase); done; }\n";
    for shell in SHELLS {
        let begins = format!("{TRANSACTION}{logs} turn_to t; steps=$(cat $dir/steps); begin_switch");
        let (said, _) = in_apply(shell, &begins);
        assert!(said.starts_with("a switching\norder switching\n"), "{shell}: what is staged comes first: {said}");
        assert!(said.ends_with("\nphase switching\n"), "{shell}: {said}");
        let goes_back = format!("{TRANSACTION}{logs} printf 'switching\n' >>$dir/phase; revert t 4>/dev/null");
        assert_eq!(in_apply(shell, &goes_back).0, "top switching\nphase reverted\n", "{shell}");
        let full = "sync() { false; }; transaction t; tail -n 1 $dir/phase; finds";
        let (said, _) = in_apply(shell, &format!("{TRANSACTION}{full}"));
        let ends = "outcome t rolled-back\nreverted\na former\n";
        assert!(said.ends_with(ends), "{shell}: nothing was begun, whoever comes next: {said}");
        let kept = "printf 'done\n' >>$dir/phase; true >$run_dir/kept; sync() { false; }; back";
        assert_eq!(in_apply(shell, &format!("{TRANSACTION}{kept}")).0, "outcome t failed\n", "{shell}");
    }
}

#[test]
fn g05_what_was_owed_before_is_owed_again_after_a_way_back() {
    let owed = "invocations() { printf 'InvocationID=i\n'; }; is=$state/r/owed/u.service
        older() { printf 'u.service\t%s\t%s\t0\told\n' \"$1\" $2 >$is; }\n";
    let says = |shell: &str, script: &str| in_apply(shell, &format!("{TRANSACTION}{owed}{script}; cat $is")).0;
    let again = "owe_as_before u.service; owe_as_before u.service";
    for shell in SHELLS {
        let reload = "owe reload new u.service; owe reload newer u.service";
        assert_eq!(says(shell, reload), "u.service\treload\ti\t1\tnewer\n", "{shell}");
        assert_eq!(says(shell, &format!("{reload}; {again}")), "", "{shell}");
        let older = format!("older restart i; {reload}");
        assert_eq!(says(shell, &older), "u.service\trestart\ti\t0\told\n", "{shell}: no reload makes up for it");
        let more = "older reload i; owe restart new u.service";
        assert_eq!(says(shell, more), "u.service\trestart\ti\t1\tnew\n", "{shell}: a restart does");
        let containers = "docker() { [ $1 = ps ] && printf 'a\nb\n' || printf 'a@1\nb@2\n'; }
            owe restart new docker:p:s; cat $state/r/owed/docker:p:s";
        let (said, _) = in_apply(shell, &format!("{TRANSACTION}{containers}"));
        assert_eq!(said, "docker:p:s\trestart\ta@1,b@2\t1\tnew\n", "{shell}");
        assert_eq!(says(shell, &format!("{older}; {again}")), "u.service\trestart\ti\t0\told\n", "{shell}");
        let void = format!("older restart j; {reload}");
        assert_eq!(says(shell, &void), "u.service\treload\ti\t1\tnewer\n", "{shell}: it was started again since");
        assert_eq!(says(shell, &format!("{void}; {again}")), "", "{shell}");
        let never = format!("older reload i; {again}");
        assert_eq!(says(shell, &never), "u.service\treload\ti\t0\told\n", "{shell}: nothing came after it");
        let paid = |verb: &str| format!("older {verb} i; pays reload u.service");
        assert_eq!(says(shell, &paid("reload")), "", "{shell}");
        assert_eq!(says(shell, &paid("restart")), "u.service\trestart\ti\t0\told\n", "{shell}");
        let paid = |debt: &str, with: &str| format!("older {debt} i; pays {with} u.service");
        assert_eq!(says(shell, &paid("restart", "restart")), "", "{shell}");
        assert_eq!(says(shell, &paid("recreate", "restart")), "u.service\trecreate\ti\t0\told\n", "{shell}");
        for (first, then, left) in [
            ("restart", "recreate", "recreate"),
            ("recreate", "restart", "recreate"),
            ("recreate", "signal HUP", "recreate"),
            ("signal HUP", "reload", "reload"),
        ] {
            let script = format!("older '{first}' i; owe '{then}' new u.service");
            assert!(says(shell, &script).starts_with(&format!("u.service\t{left}\t")), "{shell}: {first}, {then}");
        }
        // Another stack of the same run has left it.
        let ours = format!("older restart i; sed -i 's/0/1/' $is; owe reload new u.service; {again}");
        assert_eq!(says(shell, &ours), "u.service\trestart\ti\t1\told\n", "{shell}");
    }
}

#[test]
fn g07_a_directory_that_has_come_by_then_stays_as_it_is_unless_it_is_described() {
    let set = "mkdir -m 700 $top/x; chmod g+s $top; chmod 755 $run_dir; modes() { stat -c '%a %n' $top/x $top/y 2>/dev/null | sed 's|/.*/||'; }\n";
    for shell in SHELLS {
        for (verb, mode) in [("above", 700), ("mkdir", 755)] {
            let step = format!("step=\"{verb}${{tab}}00755$tab-$tab-$tab$top/x$tab$top/y\"");
            let script = format!("{TRANSACTION}{set}{step}; do_step \"$step\"; modes; undo_step \"$step\"; modes");
            assert_eq!(in_apply(shell, &script).0, format!("{mode} x\n755 y\n700 x\n"), "{shell}: {verb}");
        }
    }
}

#[test]
fn what_is_left_running_holds_nothing_of_ours() {
    let holds = "sh -c 'for fd in 4 8 9; do [ ! -e /proc/$$/fd/$fd ] || echo held $fd; done'";
    for shell in SHELLS {
        let set = "exec 4>&1 8>$run_dir/8 9>$run_dir/9; output() { cat $run_dir/output; }; watched='' guarded=''\n";
        for runs in ["run_command 5", "check 1 command"] {
            assert_eq!(in_apply(shell, &format!("{set}{runs} {holds}; output")).0, "", "{shell}: {runs}");
        }
        assert_eq!(
            in_apply(shell, &format!("{set}{holds}")).0,
            "held 4\nheld 8\nheld 9\n",
            "{shell}: so it would show"
        );
    }
}

#[test]
fn who_is_cut_off_before_it_is_told_what_to_do_does_nothing() {
    for shell in SHELLS {
        for words in ["", "repo r\nrun 1\n", "repo r\nrun 1\nta", "repo r\nrun 1\nforge"] {
            let script = format!(
                "mkdir $run_dir/state; cd $run_dir/state; printf 'state %s\\n{words}' $run_dir/state | {{ (apply); ls; }}"
            );
            assert_eq!(in_apply(shell, &script).0, "", "{shell}: {words}");
        }
    }
}

#[tokio::test]
async fn who_cannot_tell_a_run_anything_says_so() {
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    for program in [Program::Confirm, Program::Halt] {
        let exchange = program.exchange(b"state /proc/nowhere\nrepo r\nrun 1\n", false, Duration::from_secs(20));
        let output = connection.run(exchange, None).await.unwrap();
        assert_eq!((output.status, output.stdout), (Ok(1), Vec::new()), "{program:?}");
    }
}

#[tokio::test]
async fn a_link_with_a_line_break_forges_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    symlink("x\na /etc/passwd\n[end]", root.join("link")).unwrap();
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    let questions = Questions { paths: BTreeSet::from(["/link".into()]), ..Questions::default() };
    let request = questions.to_request(&Place { root: Some(root) }, None);
    let output =
        connection.run(Program::Observe.exchange(&request, false, Duration::from_secs(20)), None).await.unwrap();
    let error = answer::parse(&output.stdout).unwrap_err().to_string();
    assert!(error.contains("/link is a link to a name that cannot be read"), "{error}");
}

#[test]
fn a_program_that_is_run_aside_is_missed_where_it_dies() {
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/src/host/programs");
    for shell in SHELLS {
        for (work, says) in [
            ("printf 'well\\n'", "well\n[end]\n"),
            ("exit 3", "missed\n"),
            ("no_such_command", "missed\n"),
            ("sh -c 'kill -9 $PPID'; true", "missed\n"),
        ] {
            let (text, input) = (format!("work() {{ {work}; }}\n"), "x".repeat(100_000));
            let script = format!(
                "text=$(cat <<'TEXT'\n{text}TEXT\n)\n. {programs}/observe.sh
                {{ printf '%s\\n' \"$text\"; yes x | head -n 50000; }} | {{ aside '{} {}' || printf 'missed\\n'; }}",
                text.len(),
                input.len()
            );
            assert_eq!(in_apply(shell, &script).0, says, "{shell}: {work}");
        }
    }
}

#[test]
fn deadlines_go_by_a_clock_that_nobody_sets() {
    for shell in SHELLS {
        // Whoever sets the clock changes what `date` says.
        let (said, _) = in_apply(shell, "date() { printf '99999999999\\n'; }; now");
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        let now: u64 = said.trim().parse().unwrap();
        assert!(now <= uptime && now + 60 > uptime, "{shell}: {now}, {uptime}");
    }
}

#[test]
fn a_full_disk_fails_a_command_and_does_not_end_the_program() {
    for shell in SHELLS {
        let (said, _) = in_apply(shell, "run_dir=/nowhere; true >\"$run_dir/output\"; printf 'goes on\\n'");
        assert_eq!(said, "goes on\n", "{shell}");
        for program in ["apply", "checks", "debts", "planned", "receive", "revert"] {
            let path = format!("{}/src/host/programs/{program}.sh", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let ends = text.lines().find(|line| line.trim_start().starts_with(": >"));
            assert_eq!(ends, None, "{program}.sh: where a redirection fails, `:` ends a shell");
        }
    }
}

/// A server that is taken out of its pool and put back leaves the very bytes, and no other line is touched.
#[test]
fn g07_every_shell_marks_one_server_and_unmarks_it() {
    let dir = tempfile::tempdir().unwrap();
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/src/host/programs");
    let begin = "# server 10.0.0.1:80;\nupstream other {\n    server 10.0.0.1:80;\n}\nupstream app_x {\n";
    let end = "\tserver [fd00::1]:80;\n    keepalive 16;\n}\nserver {\n    # $(touch pwned) `x` \\n\n}";
    let server = "    server 10.0.0.1:80 max_fails=1; # one";
    let text = |line: &str| format!("{begin}{line}\n    server 10.0.0.11:80 down;\n{end}");
    let mark = |shell: &str, word: &str, address: &str, file: &str| {
        std::fs::write(dir.path().join("file"), file).unwrap();
        let script = format!(
            "set -u; cd '{}'; . {programs}/common.sh; . {programs}/drain.sh; word=$1 new=new
            mark app_x \"$2\" file; printf '%s %s' \"$found\" \"$others\"",
            dir.path().display()
        );
        let words: Vec<&str> = shell.split(' ').chain([script.as_str(), "-", word, address]).collect();
        let output = std::process::Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
        let new = std::fs::read_to_string(dir.path().join("new")).unwrap();
        (new, String::from_utf8(output.stdout).unwrap())
    };
    for shell in SHELLS {
        let before = text(server);
        let (out, said) = mark(shell, "drain", "10.0.0.1:80", &before);
        assert_eq!(
            (out.as_str(), said.as_str()),
            (text("    server 10.0.0.1:80 max_fails=1 down; # one").as_str(), "in 1")
        );
        assert_eq!(mark(shell, "drain", "10.0.0.1:80", &out), (out.clone(), "out 1".into()), "{shell}: once is enough");
        assert_eq!(mark(shell, "fill", "10.0.0.1:80", &out), (before.clone(), "out 1".into()), "{shell}");
        let (six, said) = mark(shell, "drain", "[fd00::1]:80", &before);
        assert_eq!((six.contains("server [fd00::1]:80 down;"), said.as_str()), (true, "in 1"), "{shell}");
        assert_eq!(mark(shell, "drain", "10.0.0.2:80", &before), (before.clone(), " 2".into()), "{shell}: not there");
    }
    assert!(!dir.path().join("pwned").exists());
}
