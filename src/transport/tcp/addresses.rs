//! The addresses of a host, and listening sockets at all of them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use log::info;
use socket2::{Domain, Protocol, Socket, Type};
use url::Host;

/// The host that stands for every interface of both families, IPv4 and IPv6.
pub(crate) const EVERY_INTERFACE: &str = "*";

/// How many peers the operating system holds ready between two calls of `accept`. The system may cap it
/// (Linux: `net.core.somaxconn`, 4 096 by default).
const BACKLOG: i32 = 4_096;

/// How often the system is asked for another port, where the one that it chose for the first address is in
/// use at a further one.
const PORTS_TRIED: usize = 16;

/// The errors of a system without the address family: without IPv6, or without IPv4.
#[cfg(unix)]
const NO_SUCH_FAMILY: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
#[cfg(not(unix))]
const NO_SUCH_FAMILY: i32 = 10_047;

/// The error of the system for an interface number that no interface has.
#[cfg(unix)]
const NO_SUCH_INTERFACE: i32 = rustix::io::Errno::NODEV.raw_os_error();
#[cfg(not(unix))]
const NO_SUCH_INTERFACE: i32 = 10_049;

/// A host, before any look-up.
enum Place {
    Addresses(Vec<SocketAddr>),
    /// A name in its ASCII form.
    Name(String),
}

/// What stands between the brackets of an IPv6 address, or the host as it is.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The address that a host is, if it is one. An IPv4 address in the form of IPv6 is the IPv4 address.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The addresses of a host, those of IPv4 first. Blocks where the host is a name.
///
/// # Errors
/// The host is no name, or the name has no address.
pub(crate) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match place(host, port)? {
        Place::Addresses(addresses) => Ok(addresses),
        Place::Name(name) => {
            let found = (name.as_str(), port).to_socket_addrs();
            in_order(found.map_err(|error| unknown(&name, error))?)
        }
    }
}

/// As [`look_up`], without blocking.
pub(super) async fn look_up_async(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match place(host, port)? {
        Place::Addresses(addresses) => Ok(addresses),
        Place::Name(name) => {
            let asked = (name.as_str(), port);
            let found = async_std::net::ToSocketAddrs::to_socket_addrs(&asked).await;
            in_order(found.map_err(|error| unknown(&name, error))?)
        }
    }
}

/// Why a name has no address. Behind `%` stands the name of an interface.
fn unknown(name: &str, error: io::Error) -> io::Error {
    match name.split_once('%') {
        None => error,
        Some((_, zone)) => {
            let text = format!("this machine has no interface {zone:?}");
            io::Error::new(ErrorKind::AddrNotAvailable, text)
        }
    }
}

fn place(host: &str, port: u16) -> io::Result<Place> {
    let host = unbracketed(host);
    let known = |address: IpAddr| Place::Addresses(vec![SocketAddr::new(address, port)]);
    if host.is_empty() || host == EVERY_INTERFACE {
        let every = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        return Ok(Place::Addresses(every.map(|address| SocketAddr::new(address, port)).to_vec()));
    }
    if let Some(address) = address(host) {
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            let text = format!("a link-local address needs its interface: {address}%INTERFACE");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        return Ok(known(address));
    }
    if host.contains(':') {
        return Ok(Place::Name(host.to_owned())); // an IPv6 address with a zone
    }
    match Host::parse(host) {
        Ok(Host::Domain(name)) => Ok(Place::Name(name)),
        Ok(Host::Ipv4(address)) => Ok(known(address.into())),
        Ok(Host::Ipv6(address)) => Ok(known(address.into())),
        Err(error) => {
            Err(io::Error::new(ErrorKind::InvalidInput, format!("no host name: {error}")))
        }
    }
}

/// Each address once, those of IPv4, which every Client can use, first.
fn in_order(found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for mut address in found {
        if let IpAddr::V4(canonical) = address.ip().to_canonical() {
            address = SocketAddr::from((canonical, address.port()));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        return Err(io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address"));
    }
    Ok(addresses)
}

/// The system's error for an address that this machine does not have; `None` if it has the address, or if that is
/// not known. It binds a port that the system chooses for a moment, and does not listen.
pub(crate) fn lacks(mut address: SocketAddr) -> Option<io::Error> {
    address.set_port(0);
    let bound = socket(address).and_then(|socket| socket.bind(&address.into()));
    bound.err().filter(is_absent)
}

/// Sockets that listen at all of `addresses`, at one port: where that is 0, at one that the system chooses.
/// An address that the machine does not have is left out, unless it is the only one.
///
/// # Errors
/// Where an address cannot be bound for any other reason, or the machine has none of them. Nothing is bound
/// then.
pub(super) fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let chosen = addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0);
    let mut tried = 1;
    loop {
        match listen_once(addresses) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && chosen && tried < PORTS_TRIED => {
                tried += 1;
            }
            done => return done,
        }
    }
}

fn listen_once(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut failure = None;
    for &(mut address) in addresses {
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr()?.port());
        }
        match listen_at(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if addresses.len() == 1 => return Err(error),
            Err(error) => {
                let named = io::Error::new(error.kind(), format!("{address}: {error}"));
                if !is_absent(&error) {
                    return Err(named);
                }
                failure = Some(named);
            }
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => return Err(error),
        Some(error) => {
            info!("an address is left out, because this machine does not have it: {error}");
        }
        None => {}
    }
    Ok(listeners)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || [Some(NO_SUCH_FAMILY), Some(NO_SUCH_INTERFACE)].contains(&error.raw_os_error())
}

/// The standard library's own `bind` has a backlog of 128, which a storm of reconnecting Clients overruns.
fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    // On Windows the option would let two programs share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket for one address. For IPv6 it takes no IPv4, so that both families may share a port.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn hosts_stand_for_addresses() {
        for (host, expected) in [
            ("127.0.0.1", &["127.0.0.1:7"][..]),
            ("127.1", &["127.0.0.1:7"]),
            ("::1", &["[::1]:7"]),
            ("[::1]", &["[::1]:7"]),
            ("::ffff:127.0.0.1", &["127.0.0.1:7"]),
            ("*", &["0.0.0.0:7", "[::]:7"]),
            ("", &["0.0.0.0:7", "[::]:7"]),
        ] {
            assert_eq!(look_up(host, 7).expect(host), addresses(expected), "{host}");
        }
        assert_eq!(look_up("a b", 7).expect_err("no name").kind(), ErrorKind::InvalidInput);
        let error = look_up("fe80::1", 7).expect_err("no interface");
        assert!(error.to_string().contains("fe80::1%INTERFACE"), "{error}");
    }

    #[test]
    fn international_names_are_looked_up_in_ascii() {
        for host in ["müller.example", "MÜLLER.example", "m%C3%BCller.example"] {
            let Ok(Place::Name(name)) = place(host, 1) else { panic!("{host} is a name") };
            assert_eq!(name, "xn--mller-kva.example");
        }
        // An underscore is no letter of a DNS name, but of the names of containers.
        assert!(matches!(place("my_broker", 1), Ok(Place::Name(name)) if name == "my_broker"));
    }

    #[test]
    fn each_address_comes_once_and_ipv4_first() {
        let found = addresses(&["[::1]:1", "127.0.0.1:1", "[::ffff:127.0.0.1]:1", "[::1]:1"]);
        let ordered = in_order(found.into_iter()).expect("some");
        assert_eq!(ordered, addresses(&["127.0.0.1:1", "[::1]:1"]));
        assert!(in_order([].into_iter()).is_err());
    }

    /// Linux has the whole of 127.0.0.0/8.
    #[test]
    #[cfg(target_os = "linux")]
    fn all_addresses_get_the_port_that_the_first_was_given() {
        let listeners = listen(&addresses(&["127.0.0.1:0", "127.0.0.2:0"])).expect("a free port");
        let bound: Vec<_> = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        assert_eq!(bound[0].ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(bound[1], SocketAddr::from(([127, 0, 0, 2], bound[0].port())));
        assert_ne!(bound[0].port(), 0);
    }

    /// TEST-NET-3 and the documentation prefix, RFC 5737 and 3849: no machine has them.
    #[test]
    fn an_address_of_another_machine_is_left_out_unless_it_is_the_only_one() {
        let listeners = listen(&addresses(&["203.0.113.1:0", "[2001:db8::1]:0", "127.0.0.1:0"]));
        let listeners = listeners.expect("one of them is here");
        assert_eq!(listeners.len(), 1);
        let others =
            listen(&addresses(&["203.0.113.1:0", "198.51.100.1:0"])).expect_err("not here");
        assert!(is_absent(&others) && others.to_string().contains("198.51.100.1"), "{others}");
        assert!(lacks(addresses(&["203.0.113.1:1"])[0]).is_some());
        assert!(lacks(addresses(&["127.0.0.1:1"])[0]).is_none(), "the port does not matter");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_address_in_use_leaves_nothing_bound() {
        let held = listen(&addresses(&["127.0.0.2:0"])).expect("a free port");
        let port = held[0].local_addr().expect("bound").port();
        let both = [SocketAddr::from(([127, 0, 0, 1], port)), ([127, 0, 0, 2], port).into()];
        let error = listen(&both).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("127.0.0.2:{port}")), "{error}");
        assert!(listen(&both[..1]).is_ok(), "the first is free again");
    }

    #[test]
    fn without_a_family_the_system_says_so() {
        let absent = io::Error::from_raw_os_error(NO_SUCH_FAMILY);
        assert!(is_absent(&absent), "{absent}");
    }
}
