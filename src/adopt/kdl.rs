//! Writing KDL.

/// A string as KDL writes it.
pub fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A node with a body, which is left out where it has no lines.
pub fn node(head: String, body: Vec<String>) -> Vec<String> {
    if body.is_empty() {
        return vec![head];
    }
    let body = body.into_iter().map(|line| format!("    {line}"));
    std::iter::once(format!("{head} {{")).chain(body).chain(["}".to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in ["plain", "a \"b\" \\ c", "tab\tand\nline", "/etc/a b", "$x {y}"] {
            let document: kdl::KdlDocument = format!("node {}", string(text)).parse().unwrap();
            assert_eq!(document.nodes()[0].get(0).unwrap().as_string(), Some(text));
        }
    }
}
