//! What lets people into a host, keeps it on the network and alive. Never removed or stopped by the way.

use camino::Utf8Path;

/// Units without which nobody gets in.
const UNITS: [&str; 27] = [
    "ssh.service",
    "ssh.socket",
    "sshd.service",
    "sshd.socket",
    "networking.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "netplan-ovs-cleanup.service",
    "nftables.service",
    "ufw.service",
    "firewalld.service",
    "netfilter-persistent.service",
    "wg-quick.service",
    "openvpn.service",
    "openvpn-client.service",
    "openvpn-server.service",
    "tailscaled.service",
    "zerotier-one.service",
    "nebula.service",
    "sssd.service",
    "iptables.service",
    "dbus.service",
    "dbus.socket",
    "systemd-logind.service",
    "systemd-user-sessions.service",
];

/// Trees and files of which the same is true: who may log in and become root, how the network is set up, what boots.
const PATHS: [&str; 35] = [
    "/etc/ssh",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/pam.d",
    "/etc/security",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/network",
    "/etc/netplan",
    "/etc/NetworkManager",
    "/etc/systemd/network",
    "/etc/systemd/networkd.conf",
    "/etc/systemd/networkd.conf.d",
    "/etc/systemd/resolved.conf",
    "/etc/systemd/resolved.conf.d",
    "/etc/resolv.conf",
    "/etc/nftables.conf",
    "/etc/nftables.d",
    "/etc/iptables",
    "/etc/ufw",
    "/etc/firewalld",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
    "/usr/sbin/sshd",
    "/usr/bin/sudo",
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/var/lib/reconcile",
];

/// Where units are described.
const UNIT_TREES: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Whether losing or spoiling this path can lock everybody out.
pub(super) fn is_protected_path(path: &Utf8Path) -> bool {
    let of_unit = || {
        let tree = UNIT_TREES.iter().find_map(|tree| path.strip_prefix(tree).ok());
        let unit = tree.and_then(|rest| rest.components().next());
        unit.is_some_and(|unit| is_protected_unit(unit.as_str().strip_suffix(".d").unwrap_or(unit.as_str())))
    };
    // The keys by which anybody logs in, wherever their home is.
    let of_keys = || path.components().any(|part| part.as_str() == ".ssh");
    PATHS.iter().any(|protected| path.starts_with(protected)) || of_keys() || of_unit()
}

/// Whether nobody gets in without this unit.
pub(super) fn is_protected_unit(unit: &str) -> bool {
    // One of several, such as `ssh@0.service`, is as good as the whole.
    let template = unit.split_once('@').map(|(name, _)| format!("{name}.service"));
    UNITS.contains(&unit) || template.is_some_and(|template| UNITS.contains(&template.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_the_way_in_is_protected_and_its_neighbours_are_not() {
        for path in [
            "/etc/ssh/sshd_config.d/x.conf",
            "/home/deploy/.ssh/authorized_keys",
            "/root/.ssh",
            "/etc/sudoers.d/deploy",
            "/etc/systemd/system/ssh.service",
            "/etc/systemd/system/ssh.service.d/port.conf",
            "/etc/systemd/network/10-eth.network",
            "/etc/systemd/networkd.conf.d/10.conf",
            "/etc/wireguard/wg0.conf",
            "/etc/systemd/system/wg-quick@wg0.service.d/x.conf",
        ] {
            assert!(is_protected_path(path.into()), "{path}");
        }
        for path in ["/etc/sshfs.conf", "/etc/systemd/system/sshguard.service", "/etc/motd", "/srv/ssh/x"] {
            assert!(!is_protected_path(path.into()), "{path}");
        }
        assert!(is_protected_unit("wg-quick@wg0.service") && is_protected_unit("ufw.service"));
        assert!(is_protected_unit("sshd.service") && is_protected_unit("ssh@1.service"));
        assert!(!is_protected_unit("nginx.service") && !is_protected_unit("worker@ssh.service"));
    }
}
