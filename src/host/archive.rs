//! The tar archive that carries files to a host.

use camino::Utf8Path;

/// A tar archive in memory. Paths are absolute; they are stored relative to `/`.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Self {
        Archive(tar::Builder::new(Vec::new()))
    }
}

impl Archive {
    /// Adds a directory, owned by whoever unpacks.
    pub fn directory(&mut self, path: &Utf8Path, mode: u32) {
        self.entry(tar::EntryType::Directory, path, mode, &[], None);
    }

    /// Adds a regular file, owned by whoever unpacks.
    pub fn file(&mut self, path: &Utf8Path, mode: u32, bytes: &[u8]) {
        self.entry(tar::EntryType::Regular, path, mode, bytes, None);
    }

    /// Adds a named pipe.
    pub fn pipe(&mut self, path: &Utf8Path, mode: u32) {
        self.entry(tar::EntryType::Fifo, path, mode, &[], None);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &Utf8Path, target: &str) {
        self.entry(tar::EntryType::Symlink, path, 0o777, &[], Some(target));
    }

    /// The archive's bytes.
    pub fn finish(self) -> Vec<u8> {
        in_memory(self.0.into_inner())
    }

    /// The bytes of this archive's entries and then of another's.
    pub fn followed_by(self, other: Archive) -> Vec<u8> {
        // An archive ends with two empty blocks of 512 bytes.
        let mut bytes = self.finish();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(other.finish());
        bytes
    }

    fn entry(&mut self, kind: tar::EntryType, path: &Utf8Path, mode: u32, bytes: &[u8], target: Option<&str>) {
        let name = path.as_str().trim_start_matches('/');
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_mtime(0);
        match target {
            Some(target) => in_memory(self.0.append_link(&mut header, name, target)),
            None => in_memory(self.0.append_data(&mut header, name, bytes)),
        }
    }
}

/// Writing to memory fails only for names that no tar can hold: those with a NUL or `..`, which no managed path has.
fn in_memory<T>(result: std::io::Result<T>) -> T {
    result.expect("a managed path fits into a tar archive")
}
