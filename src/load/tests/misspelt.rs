//! A word that is misspelt is one mistake: what is missing because of it is no second one.

use std::fs;

use kdl::KdlDocument;

use super::*;

/// Every name of a node or property below the first level, and what becomes of the text when it is misspelt.
fn slips(document: &KdlDocument, text: &str, found: &mut Vec<String>) {
    for node in document.nodes() {
        let names = node.entries().iter().filter_map(|entry| entry.name()).map(|name| (name.value(), name.span()));
        let inner = node.children().into_iter().flat_map(KdlDocument::nodes);
        let inner = inner.map(|node| (node.name().value(), node.name().span()));
        for (name, span) in names.chain(inner) {
            let (before, after) = (&text[..span.offset()], &text[span.offset() + span.len()..]);
            if !name.is_empty() {
                found.push(format!("{before}{name}x{after}"));
            }
        }
        if let Some(body) = node.children() {
            slips(body, text, found);
        }
    }
}

/// The files of all examples, by their paths in the repository of each.
fn examples() -> Vec<BTreeMap<Utf8PathBuf, Arc<[u8]>>> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let below = |place: &Utf8Path| {
        let (mut found, mut open) = (BTreeMap::new(), vec![place.to_path_buf()]);
        while let Some(directory) = open.pop() {
            for entry in directory.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.insert(path.strip_prefix(place).unwrap().into(), fs::read(&path).unwrap().into());
                }
            }
        }
        found
    };
    let places = root.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
    places.filter(|place| place.is_dir()).map(|place| below(&place)).collect()
}

#[test]
fn a_misspelt_word_is_one_mistake() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for files in examples() {
        for (path, bytes) in files.iter().filter(|(path, _)| path.extension() == Some("kdl")) {
            let text = std::str::from_utf8(bytes).unwrap();
            let (document, mut all) = (KdlDocument::parse_v2(text).unwrap(), Vec::new());
            slips(&document, text, &mut all);
            for slip in all {
                let mut files = files.clone();
                files.insert(path.clone(), slip.as_bytes().into());
                let Err(error) = load(&files, WORLD, Secrets::Placeholder) else { continue };
                let said = lines(&error.problems);
                if said.iter().any(|line| line.contains(" called `")) {
                    tried += 1;
                    wrong.extend((error.problems.errors() != 1).then(|| said.join("\n")));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(tried > 50, "{tried}");
}
