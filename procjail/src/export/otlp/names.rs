//! Names of hosts to their addresses: /etc/hosts, then DNS.
//!
//! Not by getaddrinfo(3): in a program that is linked statically it loads the modules of the host's C library
//! (nsswitch.conf(5)), and where that is another version's, it takes the program with it, and the jail.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use resolv_conf::Config;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::net::UdpSocket;

use crate::clock;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Largest answer that is read, bytes.
const ANSWER_BYTES: usize = 4 << 10;

/// Looks names up, as a service that a connector asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names;

impl tower_service::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let mut addresses = in_hosts(&read("/etc/hosts"), name.as_str());
            if addresses.is_empty() {
                let config = Config::parse(read("/etc/resolv.conf")).unwrap_or_default();
                addresses = by_dns(name.as_str(), &config, DNS_PORT).await?;
            }
            // The connector puts in the port.
            let addresses: Vec<SocketAddr> = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            Ok(addresses.into_iter())
        })
    }
}

/// What hosts(5) has of a name. `localhost` is known even without it.
fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|known| known.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect();
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

/// Asks the servers of resolv.conf(5), for the name itself and below the domains to search.
async fn by_dns(name: &str, config: &Config, port: u16) -> io::Result<Vec<IpAddr>> {
    let mut failure = None;
    for full in candidates(name, config) {
        for server in config.get_nameservers_or_local() {
            match ask(SocketAddr::new((&server).into(), port), &full).await {
                // It says that there is no such name, so there is no use in asking another one.
                Ok(addresses) if addresses.is_empty() => break,
                Ok(addresses) => return Ok(addresses),
                Err(error) => failure = Some(error),
            }
        }
    }
    Err(failure.map_or_else(
        || io::Error::new(io::ErrorKind::NotFound, "DNS has no such name"),
        |error| io::Error::new(error.kind(), format!("no answer from DNS: {error}")),
    ))
}

/// The names to ask for, in this order.
fn candidates(name: &str, config: &Config) -> Vec<String> {
    if let Some(full) = name.strip_suffix('.') {
        return vec![full.to_owned()];
    }
    let domains = config.get_last_search_or_domain();
    let mut names: Vec<String> = domains
        .map(|domain| format!("{name}.{}", domain.trim_matches('.')))
        .collect();
    let dots = name.matches('.').count();
    let place = if dots >= config.ndots as usize {
        0
    } else {
        names.len()
    };
    names.insert(place, name.to_owned());
    names
}

/// The addresses that one server knows; none if it says that there are none.
async fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let (four, six) = tokio::join!(
        query(server, name, TYPE::A),
        query(server, name, TYPE::AAAA)
    );
    match (four, six) {
        (Ok(mut four), Ok(six)) => {
            four.extend(six);
            Ok(four)
        }
        // Some servers don't answer for the one kind or the other.
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn query(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let here: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let wrong = |error: simple_dns::SimpleDnsError| {
        io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
    };
    // Guarded by the port as well, which the kernel chooses at random.
    let id = clock::boot_ns() as u16;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        simple_dns::Name::new(name).map_err(wrong)?,
        kind.into(),
        CLASS::IN.into(),
        false,
    ));
    let question = packet.build_bytes_vec().map_err(wrong)?;
    let socket = UdpSocket::bind(SocketAddr::new(here, 0)).await?;
    socket.connect(server).await?;
    let mut answer = vec![0; ANSWER_BYTES];
    // A datagram may be lost.
    for _ in 0..2 {
        socket.send(&question).await?;
        let received = tokio::time::timeout(ANSWER, socket.recv(&mut answer)).await;
        let Ok(length) = received else { continue };
        let answer = answer.get(..length?).unwrap_or_default();
        if let Some(found) = read(answer, id) {
            return found;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The addresses in an answer; `None` if it is none to that question.
fn read(answer: &[u8], id: u16) -> Option<io::Result<Vec<IpAddr>>> {
    let packet = Packet::parse(answer).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    Some(match packet.rcode() {
        RCODE::NoError | RCODE::NameError => Ok(packet
            .answers
            .iter()
            .filter_map(|record| match &record.rdata {
                RData::A(found) => Some(Ipv4Addr::from(found.address).into()),
                RData::AAAA(found) => Some(Ipv6Addr::from(found.address).into()),
                _ => None,
            })
            .collect()),
        code => Err(io::Error::other(format!("the server says {code:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    #[test]
    fn names_of_the_hosts_file_are_known() {
        let hosts = "127.0.0.1 localhost\n10.1.2.3\tCollector otel # office\n::1 otel\nnonsense\n";
        let found = |name| in_hosts(hosts, name);
        assert_eq!(found("collector"), [IpAddr::from([10, 1, 2, 3])]);
        assert_eq!(found("otel.").len(), 2);
        assert!(found("office").is_empty() && found("nonsense").is_empty());
        assert_eq!(in_hosts("", "localhost").len(), 2);
    }

    #[test]
    fn names_are_completed_as_resolv_conf_has_it() {
        let text =
            "nameserver 10.0.0.10\nsearch ns.svc.cluster.local svc.cluster.local\noptions ndots:5";
        let config = Config::parse(text).expect("valid");
        let expected = [
            "otel.obs.ns.svc.cluster.local",
            "otel.obs.svc.cluster.local",
            "otel.obs",
        ];
        assert_eq!(candidates("otel.obs", &config), expected);
        assert_eq!(candidates("otel.", &config), ["otel"]);
        let plain = Config::parse("search lan").expect("valid");
        assert_eq!(candidates("a.b", &plain), ["a.b", "a.b.lan"]);
        assert_eq!(candidates("a", &plain), ["a.lan", "a"]);
    }

    /// A server that knows one name, and not its IPv6 address.
    async fn serve(socket: UdpSocket) {
        let mut bytes = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut bytes).await.expect("a question");
            let asked = Packet::parse(&bytes[..length]).expect("a question");
            let question = asked.questions[0].clone();
            let mut reply = Packet::new_reply(asked.id());
            let known = question.qname.to_string() == "otel.lan";
            if known && question.qtype == TYPE::A.into() {
                reply.answers.push(ResourceRecord::new(
                    question.qname,
                    CLASS::IN,
                    60,
                    RData::A(A {
                        address: u32::from(Ipv4Addr::new(10, 9, 8, 7)),
                    }),
                ));
            } else if !known {
                *reply.rcode_mut() = RCODE::NameError;
            }
            let reply = reply.build_bytes_vec().expect("a reply");
            socket.send_to(&reply, from).await.expect("sent");
        }
    }

    #[test]
    fn a_server_is_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let port = socket.local_addr().expect("an address").port();
            let server = tokio::spawn(serve(socket));
            let config = Config::parse("nameserver 127.0.0.1\nsearch lan").expect("valid");
            let found = by_dns("otel", &config, port).await.expect("an address");
            assert_eq!(found, [IpAddr::from([10, 9, 8, 7])]);
            let error = by_dns("nothing", &config, port)
                .await
                .expect_err("no such name");
            assert_eq!(error.to_string(), "DNS has no such name");
            server.abort();
        });
    }

    #[test]
    fn nonsense_is_no_answer() {
        for bytes in [&b""[..], b"\0", &[0xff; 100], &[0; 12]] {
            assert!(read(bytes, 0).is_none());
        }
    }
}
