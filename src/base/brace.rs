//! Which brace of a KDL text was never closed.

/// Where the brace that lacks its partner was opened, as far as indentation tells: a closing brace at the beginning of a
/// line belongs to the line that is indented as it is. What was opened in between was not closed.
pub(super) fn unclosed(text: &str) -> Option<usize> {
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let skipped = skip(rest);
        match c {
            _ if skipped > 0 => {}
            '{' => open.push((at, indent(text, at).0)),
            '}' => {
                let (width, first) = indent(text, at);
                let (brace, of_line) = *open.last()?;
                if first && width < of_line {
                    return Some(brace);
                }
                open.pop();
            }
            _ => {}
        }
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    open.last().map(|(brace, _)| *brace)
}

/// How far the line of a place is indented, and whether the place is the first in it.
fn indent(text: &str, at: usize) -> (usize, bool) {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let width = text[line..].len() - text[line..].trim_start_matches([' ', '\t']).len();
    (width, line + width == at)
}

/// How much of the text is a string or a comment.
fn skip(text: &str) -> usize {
    let until = |begin: usize, end: &str| text[begin..].find(end).map_or(text.len(), |at| begin + at + end.len());
    let hashes = text.len() - text.trim_start_matches('#').len();
    match text {
        _ if text.starts_with("//") => text.find('\n').unwrap_or(text.len()),
        _ if text.starts_with("/*") => until(2, "*/"),
        _ if text.starts_with("\"\"\"") => until(3, "\"\"\""),
        _ if hashes > 0 && text[hashes..].starts_with('"') => until(hashes + 1, &format!("\"{}", "#".repeat(hashes))),
        _ if text.starts_with('"') => {
            let mut escaped = false;
            let end = text[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(text.len(), |end| end + 2)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brace_that_was_not_closed_is_found() {
        for (text, line) in [
            ("a {\n    b {\n        c \"}\"\n    d\n}\n", Some(2)),
            ("a {\n    b {\n    }\n", Some(1)),
            ("a {\n    b {\n        c {\n            d\n    }\n}\n", Some(3)),
            ("a {\n    b { c\n    d /* } */ // }\n}\n", Some(2)),
            ("a {\n    b #\"{\"# \"\\\"{\" {\n    }\n}\n", None),
            ("a {", Some(1)),
        ] {
            let found = unclosed(text).map(|at| text[..at].lines().count().max(1));
            assert_eq!(found, line, "{text}");
        }
    }
}
