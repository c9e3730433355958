//! `.dockerignore`: what of a folder is no part of a build.

/// The patterns of such a file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    /// Each with whether it takes back what an earlier one left out.
    patterns: Vec<(Vec<String>, bool)>,
}

impl Ignore {
    /// Reads the file.
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let pattern = |line: &str| {
            let (line, back) = line.strip_prefix('!').map_or((line, false), |rest| (rest.trim(), true));
            let parts = line.split('/').filter(|part| !part.is_empty() && *part != ".");
            (parts.map(String::from).collect::<Vec<_>>(), back)
        };
        Ignore { patterns: lines.map(pattern).filter(|(parts, _)| !parts.is_empty()).collect() }
    }

    /// Whether a file, named relative to the folder, is left out. The last pattern that speaks of it, or of a folder it is
    /// in, decides.
    pub fn leaves_out(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let speaks = |pattern: &[String]| (1..=parts.len()).any(|upto| matches(pattern, &parts[..upto]));
        self.patterns.iter().rev().find(|(pattern, _)| speaks(pattern)).is_some_and(|(_, back)| !back)
    }
}

/// Whether a pattern is for exactly this path; `**` stands for any number of folders.
fn matches(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            matches(rest, path) || path.split_first().is_some_and(|(_, below)| matches(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            is_like(&first, &name) && matches(rest, below)
        }
        _ => false,
    }
}

/// Whether a name is like a pattern with `*`, `?`, `[a-z]` and `\`.
fn is_like(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => is_like(rest, name) || (!name.is_empty() && is_like(pattern, &name[1..])),
        (['?', rest @ ..], [_, after @ ..]) => is_like(rest, after),
        (['[', rest @ ..], [one, after @ ..]) => match rest.iter().skip(1).position(|c| *c == ']') {
            Some(end) => in_class(&rest[..=end], *one) && is_like(&rest[end + 2..], after),
            None => false,
        },
        (['\\', first, rest @ ..] | [first, rest @ ..], [one, after @ ..]) => first == one && is_like(rest, after),
        _ => false,
    }
}

/// Whether a character is one of `a-z_`, or none of `^a-z_`.
fn in_class(class: &[char], one: char) -> bool {
    let (class, not) = class.strip_prefix(&['^']).map_or((class, false), |rest| (rest, true));
    let mut rest = class;
    let mut found = false;
    while let [first, after @ ..] = rest {
        let (last, after) = if let ['-', last, after @ ..] = after { (last, after) } else { (first, after) };
        found |= (*first..=*last).contains(&one);
        rest = after;
    }
    found != not
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_speaks_of_a_file_decides() {
        let ignore = Ignore::parse(
            "# dependencies\nnode_modules\n/dist/\n**/*.log\n*.md\n!README.md\n.git\nsecret?.[a-c]x\ndocs/**\n!docs/keep.txt\n",
        );
        for (path, out) in [
            ("node_modules/a/b.js", true),
            ("app/node_modules/b.js", false),
            ("dist/main.js", true),
            ("src/dist", false),
            ("x.log", true),
            ("a/b/x.log", true),
            ("NOTES.md", true),
            ("README.md", false),
            ("a/NOTES.md", false),
            (".gitignore", false),
            (".git/config", true),
            ("secret1.bx", true),
            ("secret1.dx", false),
            ("docs/a/b", true),
            ("docs/keep.txt", false),
        ] {
            assert_eq!(ignore.leaves_out(path), out, "{path}");
        }
    }
}
