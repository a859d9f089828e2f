//! Which sockets a process has, from procfs: its descriptors name inodes, the tables of its network namespace
//! have the addresses. No descriptor of the process is taken.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

/// Descriptors of a process that are looked at.
const DESCRIPTORS: usize = 1024;

/// Addresses of a process that are told, of each kind.
const ADDRESSES: usize = 32;

/// `TCP_ESTABLISHED` and `TCP_LISTEN` of include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_LISTEN: u8 = 10;

/// `__SO_ACCEPTCON` of include/uapi/linux/net.h, and `SS_CONNECTED`.
const UNIX_LISTENS: u32 = 1 << 16;
const UNIX_CONNECTED: u8 = 3;

/// A socket with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    /// It accepts connections there.
    Listening(String),
    /// It is connected: with its peer, or at its own path if the peer has no name.
    Connected(String),
}

/// The sockets of some processes, by network namespace and inode. Reads each table once.
pub struct Sockets {
    until: Instant,
    tables: HashMap<PathBuf, HashMap<u64, Socket>>,
}

impl Sockets {
    /// Nothing is read yet, and nothing after `until`: the host's tables can be long.
    pub fn new(until: Instant) -> Sockets {
        Sockets {
            until,
            tables: HashMap::new(),
        }
    }

    /// Where a process listens, and what it is connected with; both sorted.
    ///
    /// What its own network namespace doesn't have is looked for in the launcher's: an accepted unix socket is
    /// listed in the namespace of the client (`unix_stream_connect()` in net/unix/af_unix.c), and a socket that was
    /// inherited in the one where it was made.
    pub fn of(&mut self, pid: u32) -> (Vec<String>, Vec<String>) {
        let (own, launcher) = (pid.to_string(), "thread-self".to_owned());
        let mut left = inodes(pid);
        let mut found = Vec::new();
        for process in [own, launcher] {
            if !left.is_empty() {
                found.extend(take(&mut left, self.table_of(&process)));
            }
        }
        let (mut listening, mut connected) = (Vec::new(), Vec::new());
        for socket in found {
            match socket {
                Socket::Listening(address) => listening.push(address),
                Socket::Connected(address) => connected.push(address),
            }
        }
        for addresses in [&mut listening, &mut connected] {
            addresses.sort_unstable();
            addresses.truncate(ADDRESSES);
        }
        listening.dedup();
        (listening, connected)
    }

    /// The tables of the network namespace that a process, a name in /proc, is in.
    fn table_of(&mut self, process: &str) -> &HashMap<u64, Socket> {
        let namespace = fs::read_link(format!("/proc/{process}/ns/net")).unwrap_or_default();
        let until = self.until;
        self.tables
            .entry(namespace)
            .or_insert_with(|| table(process, until))
    }
}

/// The sockets that a table has of some inodes, which are taken out.
fn take(inodes: &mut Vec<u64>, table: &HashMap<u64, Socket>) -> Vec<Socket> {
    let mut found = Vec::new();
    inodes.retain(|inode| match table.get(inode) {
        Some(socket) => {
            found.push(socket.clone());
            false
        }
        None => true,
    });
    found
}

/// The inodes of the sockets that a process has open.
fn inodes(pid: u32) -> Vec<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let links = descriptors
        .flatten()
        .take(DESCRIPTORS)
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            name.parse().ok()
        })
        .collect()
}

/// The tables of the network namespace that a process is in.
fn table(process: &str, until: Instant) -> HashMap<u64, Socket> {
    let mut sockets = HashMap::new();
    for (name, parse) in [
        ("unix", unix as fn(&str) -> Option<(u64, Socket)>),
        ("tcp", tcp),
        ("tcp6", tcp),
    ] {
        let text = read_until(&format!("/proc/{process}/net/{name}"), until);
        sockets.extend(text.lines().filter_map(parse));
    }
    sockets
}

/// As much of a file as there is time for. The kernel gives a page or so at a time.
fn read_until(path: &str, until: Instant) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let mut chunk = vec![0; 64 << 10];
        while Instant::now() < until {
            match file.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => text.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A line of proc_net_tcp.rst: `0: 0100007F:1F90 00000000:0000 0A …`.
fn tcp(line: &str) -> Option<(u64, Socket)> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    let socket = match u8::from_str_radix(state, 16).ok()? {
        TCP_LISTEN => Socket::Listening(address(local)?.to_string()),
        TCP_ESTABLISHED => Socket::Connected(address(peer)?.to_string()),
        _ => return None,
    };
    Some((inode, socket))
}

/// `0100007F:1F90`: words of four bytes in the processor's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = host.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let host = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(host.to_canonical(), port))
}

/// A line of proc_net_unix: `Num: RefCount Protocol Flags Type St Inode Path`. Sockets without a name are left
/// out: pairs of them are a program's own.
fn unix(line: &str) -> Option<(u64, Socket)> {
    let mut fields = line.split_whitespace().skip(3);
    let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.next()?;
    // A path may have spaces.
    let (_, path) = line.split_once(&format!(" {inode} "))?;
    let address = format!("unix:{}", path.trim_end());
    let socket = match state {
        _ if flags & UNIX_LISTENS != 0 => Socket::Listening(address),
        UNIX_CONNECTED => Socket::Connected(address),
        _ => return None,
    };
    Some((inode.parse().ok()?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let listening = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 0";
        let of = |socket| Some((77, socket));
        assert_eq!(tcp(listening), of(Socket::Listening("0.0.0.0:8080".into())));
        let closing = listening.replace(" 0A ", " 06 ");
        assert_eq!(tcp(&closing), None);
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(tcp(heading), None);
        assert_eq!(tcp(""), None);
        let unix_line = "0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/a b.sock\n";
        let expected = Socket::Listening("unix:/run/a b.sock".into());
        assert_eq!(unix(unix_line), of(expected));
        let connected = "0: 00000003 00000000 00000000 0001 03 77 @x";
        assert_eq!(unix(connected), of(Socket::Connected("unix:@x".into())));
        assert_eq!(unix("0: 00000003 00000000 00000000 0001 03 77"), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_in_the_processors_order() {
        let shown = |text| address(text).map(|address| address.to_string());
        assert_eq!(shown("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
        let mapped = "0000000000000000FFFF00000100007F:0050";
        assert_eq!(shown(mapped).as_deref(), Some("127.0.0.1:80"));
        let loopback = "00000000000000000000000001000000:0050";
        assert_eq!(shown(loopback).as_deref(), Some("[::1]:80"));
        assert_eq!(shown("0100007F"), None);
    }

    #[test]
    fn the_sockets_of_this_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = listener.local_addr().expect("its address");
        let client = TcpStream::connect(there).expect("a connection");
        let (server, peer) = listener.accept().expect("the other end");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let named = UnixListener::bind(&path).expect("a socket");
        let until = Instant::now() + Duration::from_secs(10);
        let (listening, connected) = Sockets::new(until).of(std::process::id());
        assert!(listening.contains(&there.to_string()), "{listening:?}");
        let named_as = format!("unix:{}", path.display());
        assert!(listening.contains(&named_as), "{listening:?}");
        for address in [there, peer] {
            let address = address.to_string();
            assert!(connected.contains(&address), "{connected:?}");
        }
        drop((listener, client, server, named));
    }

    #[test]
    fn a_socket_of_another_namespace_is_looked_for_there() {
        let listening = Socket::Listening("unix:/s".to_owned());
        let accepted = Socket::Connected("unix:/s".to_owned());
        let own = HashMap::from([(1, listening.clone())]);
        let clients = HashMap::from([(2, accepted.clone()), (9, accepted.clone())]);
        let mut inodes = vec![1, 2, 3];
        assert_eq!(take(&mut inodes, &own), [listening]);
        assert_eq!(take(&mut inodes, &clients), [accepted]);
        assert_eq!(inodes, [3]);
    }

    #[test]
    fn nothing_is_read_after_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let found = Sockets::new(Instant::now()).of(std::process::id());
        assert_eq!(found, (Vec::new(), Vec::new()));
        drop(listener);
    }
}
