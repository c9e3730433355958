//! Which paths on a host may be written.

use camino::Utf8PathBuf;

use crate::base::decode::Text;
use crate::base::diagnostic::Problem;
use crate::resource::lowering::Lowering;

/// Trees that belong to the kernel, to the running system or to this program.
const TREES: [(&str, &str); 6] = [
    ("/proc", "it belongs to the kernel"),
    ("/sys", "it belongs to the kernel"),
    ("/dev", "it belongs to the kernel"),
    ("/run", "it is gone after a reboot"),
    ("/var/run", "it is gone after a reboot"),
    ("/var/lib/reconcile", "reconcile keeps its own state there"),
];

/// Files that many programs change, and whose loss locks everybody out.
const FILES: [&str; 5] = ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sudoers"];

/// The path in normal form, or why it cannot be one that is managed.
pub fn check(path: &str) -> Result<Utf8PathBuf, String> {
    if path.chars().any(char::is_control) {
        return Err("a path cannot contain a line break or another control character".into());
    }
    if path.len() > 1024 {
        return Err("the path is longer than 1024 bytes".into());
    }
    if !path.starts_with('/') {
        return Err(format!("`{path}` is not an absolute path"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("`{path}` contains `..`"));
    }
    let path = format!("/{}", parts.join("/"));
    if path == "/" {
        return Err("`/` itself cannot be managed".into());
    }
    if let Some((_, why)) = TREES.iter().find(|(tree, _)| path == *tree || path.starts_with(&format!("{tree}/"))) {
        return Err(format!("`{path}` cannot be managed: {why}"));
    }
    if FILES.contains(&path.as_str()) {
        return Err(format!("`{path}` cannot be managed as a whole: many programs write it"));
    }
    Ok(path.into())
}

/// The path that a text of a stack stands for. Reports why it cannot be managed.
pub fn lower(on: &Lowering<'_>, text: &Text) -> Option<Utf8PathBuf> {
    let value = on.text(text)?;
    check(&value)
        .map_err(|why| {
            let problem = Problem::error(why).at(&text.span, "this path");
            on.report(if FILES.contains(&value.as_str()) {
                problem.hint("leave it to the programs that write it; for sudo there is /etc/sudoers.d")
            } else {
                problem.hint("give an absolute path such as \"/etc/app.conf\"")
            });
        })
        .ok()
}
