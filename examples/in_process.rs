//! A broker without a listener: two parts of one program exchange messages through it, at every QoS, and the ledger
//! shows the outcome of each message.
//!
//! `cargo run --example in_process`

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use hrotti::{Broker, Message, QoS, SubscriptionOptions, TopicFilter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    block_on(async {
        let broker = Broker::new(100);
        let sensor = broker.client("sensor")?;
        let mut display = broker.client("display")?;

        // Retained: later subscribers get it first.
        sensor.publish(Message::new("house/state", "awake")?.with_retain(true)).await?;
        let everything = TopicFilter::new("house/#")?;
        display.subscribe(&everything, SubscriptionOptions::with_qos(QoS::ExactlyOnce)).await?;

        for (qos, celsius) in
            [(QoS::AtMostOnce, "20.5"), (QoS::AtLeastOnce, "21.0"), (QoS::ExactlyOnce, "21.5")]
        {
            let message = Message::new("house/kitchen/temperature", celsius)?.with_qos(qos);
            let published = sensor.publish(message).await?;
            println!("published {celsius} at {qos:?}: {} matched", published.matched);
        }
        for _ in 0..4 {
            let message = display.next().await.ok_or("the broker stopped")?;
            let text = String::from_utf8_lossy(message.payload());
            println!(
                "{} = {text} ({:?}, retained: {})",
                message.topic(),
                message.qos(),
                message.retain()
            );
        }
        println!("{}", broker.ledger());
        broker.stop().await;
        Ok(())
    })
}
