//! One message to fifty Clients, through the public interface.

use std::hint::black_box;

use futures_lite::future::block_on;
use hrotti::{Broker, Client, Message, QoS, SubscriptionOptions, TopicFilter};

use super::Operation;
use super::packets::TOPIC;
use super::pairs::{BATCH, Memory, Peer};
use crate::packet;

const SUBSCRIBERS: usize = 50;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        in_process("in-process-1-to-50/qos0", QoS::AtMostOnce),
        in_process("in-process-1-to-50/qos1", QoS::AtLeastOnce),
        over_memory(),
    ]
}

/// Routed, queued and taken, without a packet.
fn in_process(name: &str, qos: QoS) -> Operation {
    Operation::new("fanout", name, SUBSCRIBERS as u64, SUBSCRIBERS, move || {
        let broker = Broker::new(1_000);
        let publisher = broker.client("publisher").expect("a free Client Identifier");
        let filter = TopicFilter::new("plant/#").expect("a Topic Filter");
        let mut subscribers: Vec<Client> = (0..SUBSCRIBERS)
            .map(|number| {
                let client = broker.client(&format!("s{number}")).expect("a free one");
                let options = SubscriptionOptions::with_qos(qos);
                block_on(client.subscribe(&filter, options)).expect("a subscription");
                client
            })
            .collect();
        move || {
            let _alive = &broker;
            let message = Message::new(TOPIC, [b'x'; 64]).expect("a Topic Name").with_qos(qos);
            let published = block_on(publisher.publish(black_box(message)));
            if published.is_ok_and(|published| published.accepted != SUBSCRIBERS as u64) {
                return 0;
            }
            subscribers.iter_mut().filter_map(|client| block_on(client.recv())).count()
        }
    })
}

/// A batch of packets in, a batch for each subscriber out, by the broker's own tasks and threads.
fn over_memory() -> Operation {
    let elements = SUBSCRIBERS * BATCH;
    Operation::new("fanout", "memory-1-to-50/qos0", elements as u64, elements, || {
        let memory = Memory::new();
        let mut publisher = memory.connect("publisher");
        let mut subscribers: Vec<Peer> = (0..SUBSCRIBERS)
            .map(|number| {
                let mut peer = memory.connect(&format!("s{number}"));
                peer.subscribe("plant/#", packet::QoS::AtMostOnce);
                peer
            })
            .collect();
        let one = super::packets::publish(packet::QoS::AtMostOnce, TOPIC, 0, &[], 64);
        let batch = one.repeat(BATCH);
        move || {
            let _alive = &memory;
            publisher.write(&batch);
            subscribers.iter_mut().map(|peer| peer.read(batch.len()).len() / one.len()).sum()
        }
    })
}
