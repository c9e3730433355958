//! What was set up on a host by hand: the answer of `discover.sh`, read into types.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

/// Names of things that somebody may have made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Regular files of systemd and nginx.
    pub files: BTreeSet<Utf8PathBuf>,
    /// Links among them.
    pub links: BTreeSet<Utf8PathBuf>,
    /// The package that a file belongs to.
    pub packages: BTreeMap<Utf8PathBuf, String>,
    /// Units that something else starts.
    pub on_demand: BTreeSet<String>,
    /// Compose projects.
    pub projects: BTreeMap<String, ProjectFound>,
}

/// A Compose project, as the labels of its containers tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFound {
    /// Its directory.
    pub directory: Utf8PathBuf,
    /// Its files, in order.
    pub files: Vec<Utf8PathBuf>,
    /// Env files that it was started with.
    pub env_files: Vec<Utf8PathBuf>,
    /// Its containers were not all started alike.
    pub is_mixed: bool,
}

/// Reads an answer. What is not understood is passed over.
pub fn parse(answer: &[u8]) -> Discovery {
    let mut found = Discovery::default();
    for line in String::from_utf8_lossy(answer).lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        // What is no UTF-8 cannot be asked for.
        if rest.contains(char::REPLACEMENT_CHARACTER) {
            continue;
        }
        match word {
            "file" => _ = found.files.insert(rest.into()),
            "link" => _ = found.links.insert(rest.into()),
            "demand" => _ = found.on_demand.insert(rest.into()),
            // `nginx-common: /etc/…`, or `a, b: /etc/…`.
            "package" => found.packages.extend(rest.split_once(": ").map(|(name, path)| (path.into(), name.into()))),
            "project" => project(&mut found, rest),
            _ => {}
        }
    }
    found
}

fn project(found: &mut Discovery, fields: &str) {
    let mut fields = fields.split('\t');
    let mut next = || fields.next().unwrap_or_default();
    let (name, directory) = (next().to_string(), Utf8PathBuf::from(next()));
    let mut paths = || next().split(',').filter(|path| !path.is_empty()).map(Utf8PathBuf::from).collect::<Vec<_>>();
    let (files, env_files) = (paths(), paths());
    let one = ProjectFound { directory, files, env_files, is_mixed: false };
    let is_other = found.projects.get(&name).is_some_and(|other| *other != one);
    found.projects.insert(name, ProjectFound { is_mixed: is_other, ..one });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let found = parse(
            b"file /etc/systemd/system/a b.service\nlink /etc/x\npackage nginx-common: /etc/nginx/conf.d/x.conf\n\
              demand a.service\nproject app\t/opt/app\t/opt/app/compose.yaml,/opt/app/more.yaml\t\nnonsense\n[end]\n",
        );
        assert!(found.files.contains(camino::Utf8Path::new("/etc/systemd/system/a b.service")));
        assert_eq!(found.packages.values().collect::<Vec<_>>(), ["nginx-common"]);
        let app = &found.projects["app"];
        assert_eq!((app.files.len(), app.env_files.len(), app.directory.as_str()), (2, 0, "/opt/app"));
    }
}
