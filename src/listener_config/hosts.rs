//! Checks of listeners that need this machine: the addresses of their hosts, and whether two listeners claim the
//! same address.

use std::fmt;
use std::net::SocketAddr;

use super::{ListenerConfig, exclude_each_other};
use crate::transport::tcp::{lacks, look_up};

/// The listeners that cannot be bound, as far as that is known without binding their ports: the index of each, and
/// the problem. Blocks while host names are looked up.
pub(crate) fn unusable(listeners: &[(String, ListenerConfig)]) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let mut good: Vec<(usize, Vec<SocketAddr>)> = Vec::new();
    for (index, (_, listener)) in listeners.iter().enumerate() {
        if listener.is_unix() {
            continue; // a file, which is looked at when it is bound
        }
        let addresses = match addresses(listener) {
            Ok(addresses) => addresses,
            Err(problem) => {
                problems.push((index, problem));
                continue;
            }
        };
        let earlier = good.iter().find_map(|(other, theirs)| {
            let clash = addresses.iter().find(|mine| theirs.iter().any(|a| clash(**mine, *a)))?;
            Some((*other, *clash))
        });
        if let Some((other, address)) = earlier {
            let (name, theirs) = &listeners[other];
            problems.push((index, same_address(listener, name, theirs, Some(address))));
        }
        good.push((index, addresses));
    }
    problems
}

fn clash(one: SocketAddr, two: SocketAddr) -> bool {
    let scope = |address| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let elsewhere = one.ip() == two.ip() && scope(one) != scope(two);
    let one_port = one.port() != 0 && one.port() == two.port();
    one_port && !elsewhere && exclude_each_other(one.ip(), two.ip())
}

/// The error of a listener that would claim the address of another listener.
pub(crate) fn same_address(
    listener: &ListenerConfig,
    other: &str,
    theirs: &ListenerConfig,
    address: Option<SocketAddr>,
) -> String {
    let which = address.map(|address| format!(", {address},")).unwrap_or_default();
    let own = if listener.is_unix() { "path" } else { "port" };
    format!(
        "\"{listener}\" would claim the same address{which} as listener {other:?} (\"{theirs}\"); give each \
         listener a {own} of its own"
    )
}

/// The addresses at which a listener would listen.
fn addresses(listener: &ListenerConfig) -> Result<Vec<SocketAddr>, String> {
    let host = listener.host();
    let problem = |error: &dyn fmt::Display, remedy: &str| {
        format!("\"{listener}\" cannot be bound: {error}; {remedy}")
    };
    let all = look_up(host, listener.port()).map_err(|error| {
        problem(&error, &format!("check the host {host:?}, or write * for every interface"))
    })?;
    let mut here = Vec::new();
    let mut elsewhere = None;
    for address in all {
        match lacks(address) {
            None => here.push(address),
            Some(error) => elsewhere = Some((address.ip(), error)),
        }
    }
    match elsewhere {
        Some((address, error)) if here.is_empty() => Err(problem(
            &error,
            &format!(
                "no interface of this machine has the address {address}; 0.0.0.0 is every one with IPv4, \
                 [::] every one with IPv6, * is both"
            ),
        )),
        _ => Ok(here),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(urls: &[&str]) -> Vec<(usize, String)> {
        let listener = |url: &&str| ListenerConfig::new(url).expect("a good URL");
        let listeners: Vec<_> =
            urls.iter().map(|url| (format!("of {url}"), listener(url))).collect();
        unusable(&listeners)
    }

    /// What each machine has: a name for its loopback interface.
    #[test]
    fn a_name_and_its_address_are_one_address() {
        let loopback = look_up("localhost", 7).expect("every machine has it")[0];
        let url = format!("ws://{loopback}");
        let found = problems(&["tcp://localhost:7", &url, "tcp://localhost:8"]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, 1);
        for part in [&url, "\"of tcp://localhost:7\"", &loopback.to_string(), "port of its own"] {
            assert!(found[0].1.contains(part), "{part:?} is not in {found:?}");
        }
        let every = if loopback.is_ipv4() { "tcp://0.0.0.0:7" } else { "tcp://[::]:7" };
        assert_eq!(problems(&[every, "tcp://localhost:7"]).len(), 1);
        assert_eq!(problems(&["tcp://localhost:0", "tcp://localhost:0"]), []);
    }

    #[test]
    fn one_link_local_address_at_two_interfaces_is_two_addresses() {
        let at = |scope| std::net::SocketAddrV6::new("fe80::1".parse().expect("IPv6"), 7, 0, scope);
        assert!(clash(at(1).into(), at(1).into()));
        assert!(!clash(at(1).into(), at(2).into()));
        assert!(clash(at(1).into(), ([0; 16], 7).into()));
    }

    #[test]
    fn an_interface_that_this_machine_does_not_have_is_named() {
        for (url, zone) in
            [("tcp://[fe80::1%no-such]:7", "no-such"), ("ws://[fe80::1%25none]:7", "none")]
        {
            let found = problems(&[url]);
            assert_eq!(found.len(), 1, "{found:?}");
            let says = format!("this machine has no interface {zone:?}");
            assert!(found[0].1.contains(&says), "{found:?}");
            assert!(found[0].1.contains(&format!("[fe80::1%25{zone}]")), "{found:?}");
        }
        assert_eq!(problems(&["tcp://[fe80::1%4000000]:7"]).len(), 1, "a number that is none");
    }

    #[test]
    fn the_families_share_a_port() {
        if lacks(([0; 16], 0).into()).is_none() {
            assert_eq!(problems(&["tcp://0.0.0.0:7", "tcp://[::]:7"]), []);
        }
    }

    #[test]
    fn what_this_machine_does_not_have_is_named() {
        let found = problems(&["tcp://203.0.113.1:7", "tcp://no.such.host.invalid:7"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].1.contains("no interface of this machine"), "{found:?}");
        assert!(found[0].1.contains("tcp://203.0.113.1:7"), "{found:?}");
        assert!(found[1].1.contains("check the host \"no.such.host.invalid\""), "{found:?}");
    }

    /// As a port in use is the business of the start, so is one that needs a permission.
    #[test]
    fn ports_are_not_bound() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("tcp://{}", held.local_addr().expect("bound"));
        assert_eq!(problems(&[&url]), []);
    }
}
