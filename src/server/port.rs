//! Tells which process of this machine listens on a port, and which ports are privileged, as far as /proc says.
//!
//! Read only when a listener could not be opened. A process of another user is named to root alone.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process that listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListeningProcess {
    id: u32,
    name: String,
}

impl fmt::Display for ListeningProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.id)
    }
}

/// The state of a listening socket (proc(5), /proc/net/tcp).
const LISTEN: &str = "0A";

/// The process that listens on `port`, if it can be known.
pub(super) fn listener(port: u16) -> Option<ListeningProcess> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|table| fs::read_to_string(table).ok());
    let sockets: Vec<String> =
        tables.flat_map(|table| inodes(&table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| has_any(*id, &sockets)).find_map(|id| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        Some(ListeningProcess { id, name: name.trim_end().to_owned() })
    })
}

/// The inodes of the sockets that listen on `port`, in a table of the kernel's.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let is_ours = |local: &str| {
        local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok()).is_some_and(|found| found == port)
    };
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, local, _, LISTEN, _, _, _, _, _, inode, ..] if is_ours(local) => Some(inode.to_owned()),
            _ => None,
        }
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// Whether the process has one of these sockets open, in any of its file descriptors.
fn has_any(process: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let is_ours = |link: &Path| sockets.iter().any(|socket| link.as_os_str() == socket.as_str());
    files.filter_map(Result::ok).filter_map(|file| fs::read_link(file.path()).ok()).any(|link| is_ours(&link))
}

/// The first port that needs no privilege (ip(7), `ip_unprivileged_port_start`).
pub(super) fn first_unprivileged() -> u16 {
    let read = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    read.and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n   \
                     1: 0100007F:0C38 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0\n";
        assert_eq!(inodes(table, 3128), ["4242"]);
        assert_eq!(inodes(table, 3129), [""; 0]);
    }

    #[test]
    fn the_process_that_listens_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listener(socket.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.id, std::process::id());
        assert!(!found.name.is_empty());
    }
}
