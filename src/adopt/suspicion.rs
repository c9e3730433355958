//! Lines that look as if a secret stood in them. A file that everybody may read is copied all the same; whoever commits it
//! should have read this.

/// Words that name secrets.
const WORDS: [&str; 8] = ["password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credential"];

/// The numbers of lines that give a value to something called like a secret, or hold a private key.
pub fn lines(bytes: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(bytes);
    let numbered = text.lines().enumerate().filter(|(_, line)| is_suspicious(line));
    numbered.map(|(number, _)| number + 1).collect()
}

fn is_suspicious(line: &str) -> bool {
    if line.trim_start().starts_with('#') {
        return false;
    }
    let lower = line.to_lowercase().replace('-', "_");
    if lower.contains("begin") && lower.contains("private key") {
        return true;
    }
    WORDS.iter().any(|word| lower.match_indices(word).any(|(at, _)| has_value(&lower[at + word.len()..])))
        || has_login(&lower)
}

/// Whether what follows a name gives it a value of its own: not another name, not nothing, not a path.
fn has_value(rest: &str) -> bool {
    let rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || "_\"'".contains(c));
    let value = rest.trim_start().strip_prefix(['=', ':']).unwrap_or_default();
    let value = value.trim_matches(|c: char| c.is_whitespace() || "\"'".contains(c));
    !value.is_empty() && !value.starts_with(['$', '/', '{', '['])
}

/// `scheme://user:password@host`.
fn has_login(line: &str) -> bool {
    let after = line.split("://").skip(1);
    let mut logins = after.filter_map(|rest| rest.split(['/', ' ', '"']).next()?.rsplit_once('@'));
    logins.any(|(login, _)| login.split_once(':').is_some_and(|(_, word)| !word.is_empty() && !word.starts_with('$')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_found() {
        for line in [
            "Environment=DB_PASSWORD=hunter2",
            "Environment=\"API_TOKEN=abc\" PORT=1",
            "      POSTGRES_PASSWORD: hunter2",
            "      - SECRET_KEY=abc",
            "proxy_set_header X-Api-Key: abc;",
            "Environment=DB=postgres://app:hunter2@localhost/app",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert_eq!(lines(line.as_bytes()), [1], "{line}");
        }
        for line in [
            "# PASSWORD=hunter2",
            "      POSTGRES_PASSWORD: ${DB_PASSWORD}",
            "      POSTGRES_PASSWORD_FILE: /run/secrets/db",
            "ssl_password_file /etc/x;",
            "secrets:",
            "proxy_pass http://127.0.0.1:80;",
            "Environment=URL=https://example.org/a@b",
        ] {
            assert!(lines(line.as_bytes()).is_empty(), "{line}");
        }
    }
}
