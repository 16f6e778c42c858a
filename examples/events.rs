//! Follows what happens to a broker: a client in this process that never reads loses messages, and a peer that speaks no
//! MQTT is refused.
//!
//! `cargo run --example events`

use std::io::{Read, Write};
use std::net::TcpStream;

use futures_lite::future::{block_on, zip};
use hrotti::{
    Broker, Events, Happening, ListenerConfig, Message, SubscriptionOptions, TopicFilter,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    block_on(async {
        let broker = Broker::new(10); // messages that may wait for one client
        let events = broker.events();
        let (told, done) = zip(follow(events), act(&broker)).await;
        done?;
        println!("{told} events");
        Ok(())
    })
}

/// Prints events until the broker stops, and says how many there were.
async fn follow(mut events: Events) -> usize {
    let mut told = 0;
    while let Some(event) = events.next().await {
        match event {
            Err(lagged) => println!("{lagged}"),
            Ok(event) => {
                told += 1;
                match &event.what {
                    Happening::Connected { client, .. } => {
                        println!("{:?} connected on {}", client.client_id, client.listener);
                    }
                    Happening::Disconnected { client, cause } => {
                        println!("{:?} disconnected: {cause}", client.client_id);
                    }
                    Happening::Refused { code, why, .. } => {
                        println!("refused: {} ({code})", why.escape_debug());
                    }
                    Happening::Dropped { client_id, reason, messages } => {
                        println!("{client_id:?} lost {messages} messages: {reason}");
                    }
                    other => println!("{other:?}"),
                }
            }
        }
    }
    told
}

async fn act(broker: &Broker) -> Result<(), Box<dyn std::error::Error>> {
    let url = ListenerConfig::new("tcp://127.0.0.1:0")?;
    let endpoint = broker.add_listener("test", url).await?;
    let mut browser = TcpStream::connect(endpoint.trim_start_matches("tcp://"))?;
    browser.write_all(b"GET / HTTP/1.1\r\n")?;
    browser.read_to_end(&mut Vec::new())?; // until the broker has closed it

    let sleeper = broker.client("sleeper")?;
    sleeper.subscribe(&TopicFilter::new("news/#")?, SubscriptionOptions::default()).await?;
    for number in 0..15 {
        sleeper.publish(Message::new("news/today", number.to_string())?).await?;
    }
    // The stop tells what was not told yet.
    broker.stop_listener("test").await?;
    broker.stop().await;
    Ok(())
}
