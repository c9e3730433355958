//! Hosts, tags, keys, secrets.
