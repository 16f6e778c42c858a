//! What the broker promises to the program that embeds it, seen through the transport under test.

use futures_lite::future::block_on;
use hrotti::{DropReason, ListenerError};

use crate::codec::{ALL, Publish, Version, Will, prop};
use crate::failure::{Failure, Step, expect, expect_eq};
use crate::target::{Endpoint, House, Server};
use crate::wire::WsWire;

/// One more listener of the same broker.
#[track_caller]
fn stop(house: &House, name: &str) -> Step {
    let stopped = block_on(house.broker().stop_listener(name));
    stopped.map_err(|e| Failure::new("the listener is stopped", e.to_string()))
}

/// The name by which the fixture added its listener.
#[track_caller]
fn name_of_fixture(house: &House) -> Step<String> {
    let first = house.broker().listeners().into_iter().next();
    first.map(|info| info.name).ok_or_else(|| Failure::new("a listener", "none"))
}

/// `maxQueueDepth`: for a client that is away, and for one that is there and acknowledges nothing.
pub(crate) fn full_queue_drops_the_newest_alone(server: &Server) -> Step {
    let house = server.house()?;
    let depth = house.broker().limits().max_queue_depth;
    let refused = || house.broker().ledger().dropped(DropReason::QueueFull);
    let before = refused();
    for version in server.spoken(ALL) {
        for qos in [1, 2] {
            let id = format!("{}{qos}", version as u8);
            let mut dialling = server.client(version, &format!("s{id}")).persistent();
            if version == Version::V5 {
                dialling = dialling.prop(prop::receive_maximum(1));
            }
            let mut sub = dialling.connect()?;
            sub.subscribe("t", qos)?;
            sub.disconnect()?;
            let mut prompt = server.client(version, &format!("o{id}")).connect()?;
            prompt.subscribe("t", qos)?;
            let mut publisher = server.client(version, &format!("p{id}")).connect()?;
            let mut send = |from: usize, to: usize| {
                (from..to).try_for_each(|i| {
                    let code = publisher.publish(Publish::new("t", i.to_string()).qos(qos))?;
                    expect_eq("the publisher's Reason Code", &code, &0)?;
                    prompt.expect_publish("t", &i.to_string()).map(drop)
                })
            };
            send(0, depth + 3)?;
            let mut sub = dialling.connect()?;
            let mut last = depth;
            if version == Version::V5 {
                // One is under way now and the others wait; there is room for one more, and no more.
                let first = sub.receive()?;
                expect_eq("payload", &first.text(), &"0")?;
                send(depth + 3, depth + 6)?;
                sub.complete(&first)?;
                (1..depth).try_for_each(|i| sub.expect_publish("t", &i.to_string()).map(drop))?;
                last = depth + 4;
                sub.expect_publish("t", &(depth + 3).to_string())?;
            } else {
                (0..depth).try_for_each(|i| sub.expect_publish("t", &i.to_string()).map(drop))?;
            }
            send(last + 100, last + 101)?;
            sub.expect_publish("t", &(last + 100).to_string())?;
            sub.disconnect()?;
            // Nobody stays behind whose queue could fill in the next round.
            prompt.disconnect()?;
            server.client(version, &format!("s{id}")).connect()?.disconnect()?;
        }
    }
    expect_eq("messages refused", &(refused() - before), &(6 * 3 + 2 * 2))?;
    let ledger = house.broker().ledger();
    expect(ledger.balances(), "books that balance", ledger)
}

/// They are told (5.0: 0x98), their Wills are sent, their Sessions stay, and the name is free again.
pub(crate) fn stop_listener_disconnects_its_clients(server: &Server) -> Step {
    let house = server.house()?;
    let name = name_of_fixture(house)?;
    let tcp = server.by(&house.listen("other", "tcp://127.0.0.1:0")?);
    let mut watch = tcp.v5("watch").connect()?;
    watch.subscribe("w/#", 1)?;
    let mut gone = Vec::new();
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        let topic = format!("w/{}", version as u8);
        let will = Will::new(&topic, "will").qos(1);
        let mut client = server.client(version, &id).persistent().will(will).connect()?;
        client.subscribe("kept", 1)?;
        gone.push(client);
    }
    stop(house, &name)?;
    for client in &mut gone {
        client.expect_fault(&[0x98])?;
    }
    let wills: Step<Vec<String>> = ALL.iter().map(|_| Ok(watch.message()?.topic)).collect();
    let mut wills = wills?;
    wills.sort();
    expect_eq("Wills", &wills, &vec!["w/3", "w/4", "w/5"])?;
    watch.publish(Publish::new("kept", "x").qos(1))?;
    for version in server.spoken(ALL) {
        let mut client =
            tcp.client(version, &format!("a{}", version as u8)).persistent().connect()?;
        client.expect_publish("kept", "x")?;
    }
    let again = block_on(house.broker().stop_listener(&name));
    expect(matches!(&again, Err(ListenerError::Unknown(n)) if *n == name), "Unknown", &again)?;
    house.bind()?.v311("b").connect()?.ping()
}

pub(crate) fn stop_listener_disconnects_no_others(server: &Server) -> Step {
    let house = server.house()?;
    let tcp = server.by(&house.listen("other", "tcp://127.0.0.1:0")?);
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for version in server.spoken(ALL) {
        let mut client = server.client(version, &format!("a{}", version as u8)).connect()?;
        client.subscribe("t", 1)?;
        kept.push(client);
        let mut client = tcp.client(version, &format!("b{}", version as u8)).connect()?;
        client.subscribe("t", 1)?;
        gone.push(client);
    }
    stop(house, "other")?;
    for client in &mut gone {
        client.expect_fault(&[0x98])?;
    }
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "after").qos(1))?;
    for client in &mut kept {
        client.expect_publish("t", "after")?;
        client.expect_quiet()?;
    }
    server.v31("new").connect()?.ping()
}

pub(crate) fn listeners_share_one_topic_tree(server: &Server) -> Step {
    let house = server.house()?;
    let tcp = server.by(&house.listen("tcp", "tcp://127.0.0.1:0")?);
    let ws = server.by(&house.listen("ws", "ws://127.0.0.1:0")?);
    let ways = [server, &tcp, &ws];
    let mut subs = Vec::new();
    for (i, way) in ways.into_iter().enumerate() {
        let mut sub = way.client(ALL[i], &format!("s{i}")).connect()?;
        sub.subscribe("t/#", 2)?;
        subs.push(sub);
    }
    for (i, way) in ways.into_iter().enumerate() {
        let mut publisher = way.client(ALL[2 - i], &format!("p{i}")).connect()?;
        for qos in 0..=2 {
            let topic = format!("t/{i}/{qos}");
            publisher.publish(Publish::new(&topic, "x").qos(qos).retain())?;
            for sub in &mut subs {
                sub.expect_publish(&topic, "x")?;
            }
        }
    }
    // What was retained by each is replayed by each.
    for way in ways {
        let mut sub = way.v5("late").connect()?;
        sub.subscribe("t/#", 0)?;
        let topics: Step<Vec<String>> = (0..9).map(|_| Ok(sub.message()?.topic)).collect();
        let mut topics = topics?;
        topics.sort();
        let wanted = [0, 1, 2].map(|i| [0, 1, 2].map(|qos| format!("t/{i}/{qos}"))).concat();
        expect_eq("retained", &topics, &wanted)?;
    }
    Ok(())
}

pub(crate) fn sessions_and_takeovers_cross_listeners(server: &Server) -> Step {
    let tcp = server.by(&server.house()?.listen("tcp", "tcp://127.0.0.1:0")?);
    for (here, there) in [(server, &tcp), (&tcp, server)] {
        for version in server.spoken([Version::V311, Version::V5]) {
            let mut older = here.client(version, "a").persistent().connect()?;
            older.subscribe("t", 1)?;
            let mut newer = there.client(version, "a").persistent().connect()?;
            older.expect_fault(&[0x8E])?;
            expect_eq("Session Present", &newer.connack.session_present, &true)?;
            here.v5("p").connect()?.publish(Publish::new("t", "x").qos(1))?;
            newer.expect_publish("t", "x")?;
            drop(newer);
            here.client(version, "a").connect()?.disconnect()?;
        }
    }
    Ok(())
}

/// The path of the URL and nothing else, whatever query follows; without one, `/`.
pub(crate) fn ws_path_is_exact(server: &Server) -> Step {
    let house = server.house()?;
    let table: [(&str, &[&str], &[&str]); 3] = [
        ("", &["", "/", "/?a=b"], &["/mqtt", "//"]),
        ("/mqtt", &["/mqtt", "/mqtt?a=/b"], &["", "/", "/mqtt/", "/MQTT", "/mqtt2", "/x?/mqtt"]),
        ("/a/b%20c", &["/a/b%20c"], &["/a", "/a/b", "/a/b%20c/d"]),
    ];
    for (i, (path, served, refused)) in table.into_iter().enumerate() {
        let name = format!("ws{i}");
        let Endpoint::Ws(url) = house.listen(&name, &format!("ws://127.0.0.1:0{path}"))? else {
            return Err(Failure::new("an endpoint of ws", path));
        };
        let (host, port) = ("127.0.0.1", url.port().unwrap_or(80));
        let at = |path: &str| {
            let text = format!("ws://{host}:{port}{path}");
            Endpoint::parse(&text).map_err(|e| Failure::new("a URL", e.to_string()))
        };
        for path in served {
            let mut client = server.by(&at(path)?).v5("a").connect()?;
            client.subscribe("t", 1)?;
            // It is the same broker.
            server.v311("p").connect()?.publish(Publish::new("t", path).qos(1))?;
            client.expect_publish("t", path)?;
        }
        for path in refused {
            let Endpoint::Ws(url) = at(path)? else { continue };
            let refusal = WsWire::dial(&url).err().map(|e| e.to_string()).unwrap_or_default();
            expect(refusal.contains("404"), "404 on another path", (path, refusal))?;
        }
    }
    Ok(())
}
