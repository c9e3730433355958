//! How a host is reached: the settings of a `host` node, and the `defaults` of its file.

use camino::Utf8PathBuf;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::HostName;
use crate::host::transport::{SshTarget, Target};
use crate::load::limits::Given;
use crate::load::reading::{Reading, shown};
use crate::load::vars::{self, Vars};

/// Settings that a host can have of its own or from the `defaults` of its file.
#[derive(Default)]
pub(super) struct Settings {
    sudo: Option<bool>,
    user: Option<Text>,
    port: Option<Text>,
    jump: Option<Text>,
    identities: Vec<Text>,
    pub(super) tags: Vec<Text>,
    pub(super) vars: Vars,
    pub(super) given: Given,
}

impl Settings {
    /// The settings that `reader` holds.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Settings {
            sudo: reader.flag("sudo"),
            user: reader.value("user"),
            port: reader.value("port"),
            jump: reader.value("jump"),
            identities: reader.values("identity"),
            tags: reader.values("tags"),
            vars: vars::read(reader),
            given: Given::read(reader),
        }
    }

    /// These settings where they are given, those of `defaults` where not. Tags add up.
    pub(super) fn over(&self, defaults: &Settings) -> Settings {
        let mut vars = defaults.vars.clone();
        vars.lay_over(&self.vars);
        let identities = if self.identities.is_empty() { &defaults.identities } else { &self.identities };
        Settings {
            sudo: self.sudo.or(defaults.sudo),
            user: self.user.clone().or_else(|| defaults.user.clone()),
            port: self.port.clone().or_else(|| defaults.port.clone()),
            jump: self.jump.clone().or_else(|| defaults.jump.clone()),
            identities: identities.clone(),
            tags: defaults.tags.iter().chain(&self.tags).cloned().collect(),
            vars,
            given: self.given.over(&defaults.given),
        }
    }

    /// What is given here and means nothing for this machine itself.
    fn for_ssh_only(&self) -> Vec<(&'static str, &Text)> {
        let given = [("user", &self.user), ("port", &self.port), ("jump", &self.jump)];
        let mut given: Vec<_> = given.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))).collect();
        given.extend(self.identities.first().map(|text| ("identity", text)));
        given
    }
}

/// What only a `host` node can say about how it is reached.
pub(super) struct Place {
    address: Option<Text>,
    transport: Option<Text>,
    root: Option<Text>,
    host_keys: Vec<Text>,
}

impl Place {
    /// The place that `reader` describes.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Place {
            address: reader.value("address"),
            transport: reader.value("transport"),
            root: reader.value("root"),
            host_keys: reader.values("host-key"),
        }
    }

    /// How to get there, with the host's own settings and the defaults of its file.
    pub(super) fn target(
        &self,
        reading: &Reading<'_>,
        name: &HostName,
        own: &Settings,
        all: &Settings,
    ) -> Option<Target> {
        let transport = self.transport.as_ref().map_or("ssh", |text| text.raw.as_str());
        match transport {
            "ssh" => {
                if let Some(root) = &self.root {
                    let problem = Problem::error("`root` means something for this machine only");
                    reading.report(problem.at(&root.span, "here").hint("add `transport=\"local\"`, or remove it"));
                }
                self.ssh(reading, name, all).map(Target::Ssh)
            }
            "local" => self.local(reading, own, all),
            other => {
                let problem = Problem::error(format!("there is no transport {}", shown(other)));
                let span = self.transport.as_ref().map(|text| text.span.clone());
                reading.report(at(problem, span.as_ref()).hint("transports: ssh, local"));
                None
            }
        }
    }

    fn local(&self, reading: &Reading<'_>, own: &Settings, all: &Settings) -> Option<Target> {
        let mut useless = own.for_ssh_only();
        useless.extend(self.address.as_ref().map(|text| ("address", text)));
        useless.extend(self.host_keys.first().map(|text| ("host-key", text)));
        for (name, text) in useless {
            let problem = Problem::error(format!("`{name}` means nothing for this machine itself"));
            reading.report(problem.at(&text.span, "here").hint("remove it, or remove `transport=\"local\"`"));
        }
        let root = self.root.as_ref();
        if let Some(root) = root.filter(|root| root.raw.is_empty() || root.raw.contains(['\0', '\n'])) {
            reading.report(Problem::error(format!("{} is no directory", shown(&root.raw))).at(&root.span, "here"));
            return None;
        }
        if let Some(root) = root.filter(|_| own.sudo == Some(true)) {
            let problem = Problem::error("`sudo` means nothing below a root directory: owners are left alone there");
            reading.report(problem.at(&root.span, "here").hint("remove `sudo`, or `root`"));
        }
        // From the defaults of the file it is meant for the others.
        let sudo = all.sudo.unwrap_or(false) && root.is_none();
        Some(Target::Local { root: root.map(|root| root.raw.clone().into()), sudo })
    }

    fn ssh(&self, reading: &Reading<'_>, name: &HostName, all: &Settings) -> Option<SshTarget> {
        let address = match &self.address {
            Some(text) => plain(reading, text, "an address", ".-_:%")?,
            None => name.to_string(),
        };
        Some(SshTarget {
            address,
            port: all.port.as_ref().and_then(|text| port(reading, text)),
            user: all.user.as_ref().and_then(|text| plain(reading, text, "a login name", ".-_@+")),
            sudo: all.sudo.unwrap_or(false),
            host_keys: self.host_keys.iter().filter_map(|text| host_key(reading, text)).collect(),
            identities: all.identities.iter().filter_map(|text| identity(reading, text)).collect(),
            jump: all.jump.as_ref().and_then(|text| plain(reading, text, "a host to go through", ".-_@:%[]")),
        })
    }
}

fn at(problem: Problem, span: Option<&Span>) -> Problem {
    match span {
        Some(span) => problem.at(span, "here"),
        None => problem,
    }
}

/// A word that can be handed to programs: nothing in it is taken for an option, a separator or a control character.
fn plain(reading: &Reading<'_>, text: &Text, what: &str, besides: &str) -> Option<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || besides.contains(c);
    if !text.raw.is_empty() && text.raw.len() <= 255 && !text.raw.starts_with('-') && text.raw.chars().all(fine) {
        return Some(text.raw.clone());
    }
    let allowed: Vec<String> = besides.chars().map(|c| format!("`{c}`")).collect();
    let problem = Problem::error(format!("{} is not {what}", shown(&text.raw))).at(&text.span, "here");
    let hint = format!("it has letters, digits and {}, and does not begin with `-`", allowed.join(" "));
    reading.report(problem.hint(hint));
    None
}

fn port(reading: &Reading<'_>, text: &Text) -> Option<u16> {
    let port = text.raw.parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        let problem = Problem::error(format!("{} is not a port", shown(&text.raw))).at(&text.span, "here");
        reading.report(problem.hint("ports go from 1 to 65535"));
    }
    port
}

fn host_key(reading: &Reading<'_>, text: &Text) -> Option<String> {
    let mut words = text.raw.split_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        let problem = Problem::error("a host key is a type and a key").at(&text.span, "here");
        reading
            .report(problem.hint("write `host-key \"ssh-ed25519 AAAA…\"`, a line of `ssh-keyscan` without the name"));
        return None;
    };
    let key = format!("{kind} {data}");
    match ssh_key::PublicKey::from_openssh(&key) {
        Ok(_) => Some(key),
        Err(error) => {
            let problem = Problem::error(format!("this is not a host key: {error}")).at(&text.span, "here");
            let hint = match kind.parse::<ssh_key::Algorithm>() {
                Ok(ssh_key::Algorithm::Other(_)) | Err(_) => {
                    "types of keys: ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, ssh-rsa"
                }
                Ok(_) => "copy the whole line that `ssh-keyscan` prints, without the name",
            };
            reading.report(problem.hint(hint));
            None
        }
    }
}

fn identity(reading: &Reading<'_>, text: &Text) -> Option<Utf8PathBuf> {
    if text.raw.is_empty() || text.raw.contains(['\0', '\n']) {
        reading.report(Problem::error(format!("{} is no key file", shown(&text.raw))).at(&text.span, "here"));
        return None;
    }
    if text.raw.contains("PRIVATE KEY") {
        let problem = Problem::error("`identity` names a key file; a key itself must not be in the repository");
        reading.report(problem.at(&text.span, "here").hint("revoke this key: it has been committed"));
        return None;
    }
    Some(text.raw.clone().into())
}
