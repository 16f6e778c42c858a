//! The loop against the smallest relay there can be, in this process: it hands on every PUBLISH to
//! all subscribers whose filter fits, and does wrong what a test asks for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::*;
use crate::codec::STAMP_LEN;
use crate::target::Transport;

/// What the relay does with the message that has this number; all others it hands on.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Drop(u32),
    Repeat(u32),
    /// Holds it back until the next one of its publisher has gone.
    Delay(u32),
    /// This one and all later ones vanish.
    DropFrom(u32),
}

fn relay(fault: Fault) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, messages) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, routes) = (stream.unwrap(), routes.clone());
            thread::spawn(move || serve(stream, &routes));
        }
    });
    thread::spawn(move || {
        let mut subscribers: Vec<(String, TcpStream)> = Vec::new();
        let mut held = Vec::new();
        for route in messages {
            match route {
                Route::Subscribe(filter, stream) => subscribers.push((filter, stream)),
                Route::Publish(topic, packet) => {
                    let at = packet.len() - 64;
                    let stamp = Stamp::read(&packet[at..at + STAMP_LEN]).unwrap();
                    let mut out = packet.clone();
                    match fault {
                        Fault::Drop(number) if stamp.sequence == number => out.clear(),
                        Fault::DropFrom(number) if stamp.sequence >= number => out.clear(),
                        Fault::Repeat(number) if stamp.sequence == number => out.extend(packet),
                        Fault::Delay(number) if stamp.sequence == number => {
                            held = std::mem::take(&mut out);
                        }
                        _ => out.append(&mut held),
                    }
                    for (filter, stream) in &mut subscribers {
                        if *filter == topic || filter.ends_with('+') {
                            // A subscriber that has gone wants nothing more.
                            let _ = stream.write_all(&out);
                        }
                    }
                }
            }
        }
    });
    Target { transport: Transport::Tcp, address, pid: None }
}

enum Route {
    Subscribe(String, TcpStream),
    Publish(String, Vec<u8>),
}

fn serve(mut stream: TcpStream, routes: &Sender<Route>) {
    let text = |bytes: &[u8]| {
        let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        String::from_utf8(bytes[2..2 + len].to_vec()).unwrap()
    };
    loop {
        // Every packet of these tests is shorter than 128 bytes.
        let mut packet = vec![0; 2];
        if stream.read_exact(&mut packet).is_err() {
            return;
        }
        let len = usize::from(packet[1]);
        packet.resize(2 + len, 0);
        stream.read_exact(&mut packet[2..]).unwrap();
        match packet[0] >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
            8 => {
                let copy = stream.try_clone().unwrap();
                routes.send(Route::Subscribe(text(&packet[4..]), copy)).unwrap();
                stream.write_all(&[0x90, 3, packet[2], packet[3], 0]).unwrap();
            }
            3 => routes.send(Route::Publish(text(&packet[2..]), packet)).unwrap(),
            _ => return,
        }
    }
}

fn run_with(fault: Fault, shape: Shape, pace: Pace) -> Outcome {
    let measure = Duration::from_millis(100);
    let warmup = Duration::ZERO;
    let spec = FlowSpec { shape, clients: 3, payload: 64, pace, warmup, measure };
    run(&relay(fault), &spec).unwrap()
}

#[test]
fn every_shape_is_delivered_whole() {
    for (shape, copies) in [(Shape::Pairs, 1), (Shape::FanOut, 3), (Shape::FanIn, 1)] {
        for pace in [Pace::Window(1), Pace::Window(16), Pace::Rate(2000.0)] {
            let outcome = run_with(Fault::None, shape, pace);
            assert!(outcome.sent > 3, "{shape:?} {pace:?}: {outcome:?}");
            assert_eq!(outcome.delivered, outcome.sent * copies, "{shape:?} {pace:?}");
            let wrong = outcome.lost + outcome.duplicated + outcome.reordered + outcome.stalled;
            assert_eq!(wrong, 0, "{shape:?} {pace:?}: {outcome:?}");
            assert_eq!(
                outcome.values.contains_key(&Metric::LatencyP99Us),
                matches!(pace, Pace::Rate(_))
            );
        }
    }
}

#[test]
fn a_loss_is_seen_and_the_window_goes_on() {
    let outcome = run_with(Fault::Drop(5), Shape::Pairs, Pace::Window(4));
    assert_eq!((outcome.lost, outcome.stalled), (3, 0), "{outcome:?}");
    assert_eq!(outcome.delivered + 3, outcome.sent);
}

#[test]
fn what_comes_twice_is_seen() {
    let outcome = run_with(Fault::Repeat(5), Shape::Pairs, Pace::Window(4));
    assert_eq!((outcome.duplicated, outcome.lost), (3, 0), "{outcome:?}");
    assert_eq!(outcome.delivered, outcome.sent);
}

#[test]
fn what_is_overtaken_is_seen() {
    let outcome = run_with(Fault::Delay(5), Shape::FanOut, Pace::Window(4));
    assert_eq!((outcome.reordered, outcome.lost), (3, 0), "{outcome:?}");
    assert_eq!(outcome.delivered, outcome.sent * 3);
}

#[test]
fn a_broker_that_stops_delivering_does_not_hold_the_run() {
    let outcome = run_with(Fault::DropFrom(8), Shape::Pairs, Pace::Window(4));
    assert_eq!(outcome.delivered, 24, "{outcome:?}");
    assert_eq!(outcome.lost, outcome.sent - 24);
    assert_eq!(outcome.stalled, outcome.lost, "{outcome:?}");
    assert!(outcome.notes.iter().any(|note| note.contains("stall")), "{outcome:?}");
}

#[test]
fn a_broker_that_hangs_up_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hang_up = thread::spawn(move || drop(listener.accept().unwrap()));
    let spec = FlowSpec {
        shape: Shape::Pairs,
        clients: 1,
        payload: 64,
        pace: Pace::Window(1),
        warmup: Duration::ZERO,
        measure: Duration::from_millis(1),
    };
    assert!(run(&Target { transport: Transport::Tcp, address, pid: None }, &spec).is_err());
    hang_up.join().unwrap();
}

#[test]
fn the_null_broker_relays_large_and_small_whole() {
    for (shape, payload) in [(Shape::Pairs, 16), (Shape::FanOut, 1_000_000), (Shape::FanIn, 300)] {
        let spec = FlowSpec {
            shape,
            clients: 4,
            payload,
            pace: Pace::Window(8),
            warmup: Duration::from_millis(20),
            measure: Duration::from_millis(100),
        };
        let outcome = run(&crate::null::in_process(), &spec).unwrap();
        let copies = if shape == Shape::FanOut { 4 } else { 1 };
        assert!(outcome.sent > 0, "{shape:?} {outcome:?}");
        assert_eq!(outcome.delivered, outcome.sent * copies, "{shape:?}");
        assert_eq!(outcome.lost + outcome.duplicated + outcome.reordered, 0, "{shape:?}");
        assert!(
            outcome.values.contains_key(&Metric::BrokerUsPerMessage)
                && outcome.values.contains_key(&Metric::RssMib)
        );
    }
}
