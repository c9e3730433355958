//! 6, further: a disk that is full, at each thing that is written.

use crate::kit::seesaw::{Seesaw, each, points};
use crate::kit::{Host, free};

/// Of a small file system, what there is still room for.
#[derive(Clone, Copy)]
enum Room {
    Pages,
    Inodes,
}

impl Room {
    /// Leaves room for so many pages or inodes at a place; `None` for as many as are wanted.
    fn leave(self, host: &Host, place: &str, left: Option<usize>) {
        let option = match (self, left) {
            (_, None) => "size=8m,nr_inodes=2000".to_string(),
            (Room::Pages, Some(left)) => format!("size=$(($(stat -f -c '(%b-%f+{left})*%S' {place})))"),
            (Room::Inodes, Some(left)) => format!("nr_inodes=$(($(stat -f -c '%c-%d+{left}' {place})))"),
        };
        host.sh(&format!("mount -o remount,{option} {place}"));
    }
}

/// Applies with room for more and more, until it goes well.
fn at_each_write(host: &Host, id: &str, place: &str, few: usize) {
    let place = place.replace("ID", id);
    let mount = format!("mkdir -p {place}; mount -t tmpfs -o size=8m,nr_inodes=2000 tmpfs {place}");
    let mut saw = Seesaw::new(host, id, &mount);
    for (name, room) in [("pages", Room::Pages), ("inodes", Room::Inodes)] {
        let mut enough = 4;
        // How much one apply takes is found by halves; an attempt that fails must put all back.
        let mut attempt = |left: usize| {
            saw.tip();
            room.leave(host, &place, Some(left));
            let ran = saw.repo.run(&["apply", "--yes", "--json", "--confirm", "10"]);
            let when = format!("{place} has room for {left} {name}");
            saw.reports(&ran, &when);
            saw.is_whole(&when);
            let failed = ran.code != 0;
            if failed && !ran.outcomes().contains("failed") {
                saw.stands_as_before(&format!("{when}: {}", ran.out));
            }
            room.leave(host, &place, None);
            saw.repairs(left, &format!("{when}: {}", ran.out));
            (failed, format!("{when}: {:?}", ran.outcomes()))
        };
        while attempt(enough).0 {
            enough *= 2;
        }
        each(&format!("full {place}"), &mut [attempt], points(enough, few), |attempt, left| attempt(left - 1).1);
    }
}

#[test]
fn g06_the_disk_with_our_records_is_full() {
    let host = free();
    at_each_write(&host, "g06-records", "/var/lib/reconcile/ID", 2);
}

#[test]
fn g06_the_disk_with_the_files_is_full() {
    let host = free();
    at_each_write(&host, "g06-files", "/srv/ID", 2);
}
