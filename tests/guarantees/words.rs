//! 14: how a resource ended is the same word wherever it is told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fleet::DEAD;
use crate::kit::{Ran, Repo, free_pair};

/// The outcome of each resource, by host and id.
type Words = BTreeMap<(String, String), String>;

/// What a report says as JSON.
fn in_json(ran: &Ran) -> Words {
    let json = ran.json();
    let hosts = json["hosts"].as_array().expect("hosts").iter();
    let all = hosts.flat_map(|host| {
        let outcomes = host["outcomes"].as_object().expect("outcomes").clone().into_iter();
        outcomes.map(move |(id, word)| ((string(&host["host"]), id), string(&word)))
    });
    all.collect()
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").into()
}

/// What a report says as text: the resources it lists, and how many of each word it counts on each host.
fn in_text(ran: &Ran) -> (Words, BTreeMap<(String, String), usize>) {
    let (mut words, mut counts, mut host) = (Words::new(), BTreeMap::new(), String::new());
    // The plan comes first, and shows no outcomes.
    let report = ran.out.lines().skip_while(|line| !line.starts_with(['✓', '✗']) || !line.contains("  "));
    for line in report {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(['✓', '✗']) {
            host = fields[1].to_string();
            for pair in fields[2..].chunks(2) {
                let key = (host.clone(), pair[1].trim_matches(',').to_string());
                counts.insert(key, pair[0].parse().expect("a number"));
            }
        } else if line.starts_with("    ") && fields.len() == 3 {
            words.insert((host.clone(), format!("{}:{}", fields[1], fields[2])), fields[0].into());
        }
    }
    (words, counts)
}

fn count(words: &Words) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for ((host, _), word) in words {
        *counts.entry((host.clone(), word.clone())).or_default() += 1;
    }
    counts
}

/// What the history says of a run, and how many were unchanged on each host.
fn in_history(repo: &Repo, run: &str) -> (Words, BTreeMap<String, u64>, Value) {
    let history = repo.run(&["history", run, "--json"]).json()["run"].clone();
    let (mut words, mut unchanged) = (Words::new(), BTreeMap::new());
    for part in history["parts"].as_array().expect("parts") {
        let host = string(&part["host"]);
        *unchanged.entry(host.clone()).or_default() += part["unchanged"].as_u64().expect("it is known how it ended");
        for (id, word) in part["outcomes"].as_object().expect("outcomes") {
            words.insert((host.clone(), id.clone()), string(word));
        }
    }
    let text = repo.run(&["history", run]).out;
    for ((_, id), word) in &words {
        assert!(text.lines().any(|line| line.split_whitespace().eq([word.as_str(), id])), "{word} {id}: {text}");
    }
    (words, unchanged, history)
}

#[test]
fn g14_each_outcome_is_one_word_in_text_json_history_and_exit_code() {
    let hosts = free_pair();
    let [first_host, second_host] = [&hosts[0], &hosts[1]].map(|host| host.name.as_str());
    let id = "g14-words";
    let repo = Repo::new(id, &[&hosts[0], &hosts[1]]);
    let set = |word: &str| {
        repo.stack(
            "good",
            &format!("file \"/srv/ID/same\" content=\"same\"\nfile \"/srv/ID/other\" content=\"{word}\""),
        );
        repo.stack("kept", &format!("file \"/srv/ID/kept\" content=\"{word}\""));
        repo.stack(
            "stuck",
            &format!(
                "file \"/srv/ID/stuck\" content=\"{word}\" {{ on-change reload=\"ID-a\" }}
                unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nexec-reload \"/usr/bin/test ! -e /srv/ID/broken\" }}"
            ),
        );
    };
    set("one");
    repo.apply();
    // From here on: one host cannot be reached, a stack is held, a reload works neither forth nor back, a unit dies.
    for host in &hosts {
        host.sh(&format!("touch /srv/{id}/broken"));
    }
    assert_eq!(repo.run(&["hold", "kept"]).code, 0);
    repo.write("hosts/dead.kdl", DEAD);
    repo.write(
        "hosts/repo.kdl",
        format!("repo \"{id}\" {{ rollout {{ canary \"{first_host}\"; batch 1; threshold 2 }} }}\n"),
    );
    repo.stack("back", "unit \"ID-b\" exec=\"/bin/false\"");
    repo.stack("later", "after \"back\"\nfile \"/srv/ID/later\" content=\"later\"");
    set("two");
    let json = repo.run(&["apply", "--yes", "--json"]);
    json.is_truthful();
    let words = in_json(&json);
    let expected = [
        ("same", "unchanged", "unchanged"),
        ("other", "applied", "skipped"),
        ("stuck", "failed", "skipped"),
        ("later", "blocked", "skipped"),
        ("kept", "held", "held"),
    ];
    for (name, first, second) in expected {
        for (host, word) in [(first_host, first), (second_host, second), ("dead", "unreachable")] {
            assert_eq!(words[&(host.into(), format!("file:/srv/{id}/{name}"))], word, "{name} on {host}: {}", json.out);
        }
    }
    assert_eq!(words[&(first_host.into(), format!("unit:{id}-b"))], "rolled-back", "{}", json.out);
    let all: std::collections::BTreeSet<&String> = words.values().collect();
    assert_eq!(all.len(), 8, "{all:?}");
    // The same once more, told as text: only what was applied must be something else again.
    repo.stack(
        "good",
        &format!("file \"/srv/{id}/same\" content=\"same\"\nfile \"/srv/{id}/other\" content=\"three\""),
    );
    let text = repo.run(&["apply", "--yes"]);
    assert_eq!(text.code, json.code, "{text:?}");
    let (listed, counts) = in_text(&text);
    assert_eq!(counts, count(&words), "{}", text.out);
    for (key, word) in &words {
        match listed.get(key) {
            Some(listed) => assert_eq!(listed, word, "{key:?}: {}", text.out),
            None => assert!(
                ["unchanged", "unreachable", "skipped"].contains(&word.as_str()),
                "{key:?} {word}: {}",
                text.out
            ),
        }
    }
    let runs = [string(&json.json()["run"]), text.out.rsplit(' ').next().expect("a run").trim().to_string()];
    for run in runs {
        let (told, unchanged, history) = in_history(&repo, &run);
        let mut others = words.clone();
        others.retain(|_, word| word != "unchanged");
        assert_eq!(told, others, "{run}");
        let still =
            |host: &str| words.iter().filter(|((on, _), word)| on == host && *word == "unchanged").count() as u64;
        for host in [first_host, second_host, "dead"] {
            assert_eq!(unchanged.get(host).copied().unwrap_or(0), still(host), "{host}: {history:#}");
        }
        let ending = [(0, "done"), (1, "failed"), (3, "partly"), (4, "rolled-back")]
            .into_iter()
            .find(|(code, _)| *code == json.code);
        assert_eq!(history["ending"], ending.expect("a known exit code").1, "{history:#}");
        for (word, number) in history["summary"].as_object().expect("a summary") {
            let all = words.values().filter(|other| *other == word).count() as u64;
            assert_eq!(number.as_u64(), Some(all), "{word}: {history:#}");
        }
    }
    for host in &hosts {
        host.sh(&format!("rm -f /srv/{id}/broken"));
    }
    repo.run(&["release", "kept", "--host", first_host, "--host", second_host]);
}
