//! rumqttc behind the same few words: a client that others wrote.

use std::time::{Duration, Instant};

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packets;

use crate::capabilities::Capabilities;
use crate::client::limits;
use crate::codec::{Version, Will};
use crate::failure::{Failure, Step, skip};
use crate::target::{Endpoint, Server, prefixed};

/// A rumqttc client about to connect.
#[derive(Debug, Clone)]
#[must_use]
pub struct RumqttcOptions {
    host: String,
    port: u16,
    ws: bool,
    prefix: String,
    version: Version,
    id: String,
    clean: bool,
    will: Option<Will>,
    can: Capabilities,
    deadline: Duration,
}

/// A message as rumqttc reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Delivered {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub user: Vec<(String, String)>,
    pub content_type: Option<String>,
}

enum Inner {
    V4(rumqttc::Client, Box<rumqttc::Connection>),
    V5(v5::Client, Box<v5::Connection>),
}

/// What the cases care about among rumqttc's events.
#[derive(Debug)]
enum Event {
    Connack { session_present: bool },
    Suback,
    Unsuback,
    Acked,
    Message(Delivered),
    Other,
}

/// A connected rumqttc client. One request is under way at a time.
#[allow(missing_docs)]
pub struct Rumqttc {
    inner: Inner,
    prefix: String,
    inbox: Vec<Delivered>,
    can: Capabilities,
    deadline: Duration,
    pub session_present: bool,
}

impl std::fmt::Debug for Rumqttc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rumqttc").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn qos4(qos: u8) -> rumqttc::QoS {
    rumqttc::qos(qos).unwrap_or(rumqttc::QoS::AtMostOnce)
}

fn qos5(qos: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(qos).unwrap_or(v5::mqttbytes::QoS::AtMostOnce)
}

impl RumqttcOptions {
    pub(crate) fn new(server: &Server, version: Version, id: &str) -> Self {
        let prefix = server.prefix();
        let (host, port, ws) = match server.endpoint(version) {
            Endpoint::Tcp(address) => (address.ip().to_string(), address.port(), false),
            Endpoint::Ws(url) => (url.to_string(), url.port().unwrap_or(80), true),
        };
        RumqttcOptions {
            host,
            port,
            ws,
            prefix: prefix.into(),
            version,
            id: format!("{prefix}{id}"),
            clean: true,
            will: None,
            can: server.can(),
            deadline: server.deadline(),
        }
    }

    /// Keeps the Session: Clean Start 0, in 5.0 with an expiry of an hour.
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        self
    }

    /// The Will; its topic gets the case's prefix.
    pub fn will(mut self, mut will: Will) -> Self {
        will.topic = prefixed(&self.prefix, &will.topic);
        self.will = Some(will);
        self
    }

    /// Connects and waits for CONNACK.
    ///
    /// # Errors
    /// What rumqttc reports instead. A skip where the target lacks what CONNECT asks for.
    #[track_caller]
    pub fn connect(&self) -> Step<Rumqttc> {
        if !self.can.versions.contains(self.version) {
            return Err(skip(format!("needs MQTT {}, which is left out", self.version)));
        }
        if !self.clean && !self.can.persistent_sessions {
            return Err(skip("needs Sessions that outlive their connection"));
        }
        if let Some(will) = &self.will {
            limits::message(&self.can, will.qos, will.retain)?;
        }
        let inner = if self.version == Version::V5 { self.build5() } else { self.build4() };
        let mut client = Rumqttc {
            inner,
            prefix: self.prefix.clone(),
            inbox: Vec::new(),
            can: self.can,
            deadline: self.deadline,
            session_present: false,
        };
        client.until("CONNACK", |e| matches!(e, Event::Connack { .. }))?;
        Ok(client)
    }

    fn build4(&self) -> Inner {
        let mut options = rumqttc::MqttOptions::new(&self.id, &self.host, self.port);
        options.set_clean_session(self.clean);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(1 << 20, 1 << 20);
        if self.ws {
            options.set_transport(rumqttc::Transport::Ws);
        }
        if let Some(will) = &self.will {
            let qos = qos4(will.qos);
            let payload = will.payload.clone();
            options.set_last_will(rumqttc::LastWill::new(&will.topic, payload, qos, will.retain));
        }
        let (client, connection) = rumqttc::Client::new(options, 512);
        Inner::V4(client, Box::new(connection))
    }

    fn build5(&self) -> Inner {
        let mut options = v5::MqttOptions::new(&self.id, &self.host, self.port);
        options.set_clean_start(self.clean);
        options.set_keep_alive(Duration::from_secs(60));
        if !self.clean {
            options.set_session_expiry_interval(Some(3600));
        }
        if self.ws {
            options.set_transport(rumqttc::Transport::Ws);
        }
        if let Some(will) = &self.will {
            let topic = will.topic.clone();
            let (payload, qos) = (will.payload.clone(), qos5(will.qos));
            options.set_last_will(packets::LastWill::new(topic, payload, qos, will.retain, None));
        }
        let (client, connection) = v5::Client::new(options, 512);
        Inner::V5(client, Box::new(connection))
    }
}

fn event4(event: rumqttc::Event) -> Event {
    use rumqttc::Packet;
    let rumqttc::Event::Incoming(packet) = event else { return Event::Other };
    match packet {
        Packet::ConnAck(c) => Event::Connack { session_present: c.session_present },
        Packet::SubAck(_) => Event::Suback,
        Packet::UnsubAck(_) => Event::Unsuback,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acked,
        Packet::Publish(p) => Event::Message(Delivered {
            topic: p.topic,
            payload: String::from_utf8_lossy(&p.payload).into_owned(),
            qos: p.qos as u8,
            retain: p.retain,
            dup: p.dup,
            user: Vec::new(),
            content_type: None,
        }),
        _ => Event::Other,
    }
}

fn event5(event: v5::Event) -> Event {
    use packets::Packet;
    let v5::Event::Incoming(packet) = event else { return Event::Other };
    match packet {
        Packet::ConnAck(c) => Event::Connack { session_present: c.session_present },
        Packet::SubAck(_) => Event::Suback,
        Packet::UnsubAck(_) => Event::Unsuback,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acked,
        Packet::Publish(p) => {
            let properties = p.properties.unwrap_or_default();
            Event::Message(Delivered {
                topic: String::from_utf8_lossy(&p.topic).into_owned(),
                payload: String::from_utf8_lossy(&p.payload).into_owned(),
                qos: p.qos as u8,
                retain: p.retain,
                dup: p.dup,
                user: properties.user_properties,
                content_type: properties.content_type,
            })
        }
        _ => Event::Other,
    }
}

impl Rumqttc {
    #[track_caller]
    fn next(&mut self, within: Duration, wanted: &str) -> Step<Event> {
        let event = match &mut self.inner {
            Inner::V4(_, connection) => connection
                .recv_timeout(within)
                .map_err(|e| format!("{e:?}"))
                .and_then(|e| e.map(event4).map_err(|e| format!("{e:?}"))),
            Inner::V5(_, connection) => connection
                .recv_timeout(within)
                .map_err(|e| format!("{e:?}"))
                .and_then(|e| e.map(event5).map_err(|e| format!("{e:?}"))),
        };
        event.map_err(|e| Failure::new(format!("rumqttc: {wanted}"), e))
    }

    /// Drives rumqttc until an event; messages before it are kept.
    #[track_caller]
    fn until(&mut self, wanted: &str, done: impl Fn(&Event) -> bool) -> Step {
        let deadline = Instant::now() + self.deadline;
        loop {
            let event = self.next(deadline.saturating_duration_since(Instant::now()), wanted)?;
            let found = done(&event);
            match event {
                Event::Connack { session_present } => self.session_present = session_present,
                Event::Message(message) if message.topic.contains(&self.prefix) => {
                    let own = format!("{}/", self.prefix);
                    let topic = message.topic.replacen(&own, "", 1);
                    self.inbox.push(Delivered { topic, ..message });
                }
                _ => {}
            }
            if found {
                return Ok(());
            }
        }
    }

    /// Subscribes and waits for SUBACK.
    ///
    /// # Errors
    /// What rumqttc reports instead.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Step {
        let filter = prefixed(&self.prefix, filter);
        let asked = match &self.inner {
            Inner::V4(client, _) => client.subscribe(filter, qos4(qos)).map_err(|e| e.to_string()),
            Inner::V5(client, _) => client.subscribe(filter, qos5(qos)).map_err(|e| e.to_string()),
        };
        asked.map_err(|e| Failure::new("rumqttc subscribes", e))?;
        self.until("SUBACK", |e| matches!(e, Event::Suback))
    }

    /// Unsubscribes and waits for UNSUBACK.
    ///
    /// # Errors
    /// What rumqttc reports instead.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> Step {
        let filter = prefixed(&self.prefix, filter);
        let asked = match &self.inner {
            Inner::V4(client, _) => client.unsubscribe(filter).map_err(|e| e.to_string()),
            Inner::V5(client, _) => client.unsubscribe(filter).map_err(|e| e.to_string()),
        };
        asked.map_err(|e| Failure::new("rumqttc unsubscribes", e))?;
        self.until("UNSUBACK", |e| matches!(e, Event::Unsuback))
    }

    /// Hands a PUBLISH to rumqttc; it goes out while events are waited for.
    ///
    /// # Errors
    /// What rumqttc reports instead.
    #[track_caller]
    pub fn send(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Step {
        self.send_with(topic, payload, qos, retain, &[])
    }

    #[track_caller]
    fn send_with(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
        user: &[(&str, &str)],
    ) -> Step {
        let topic = prefixed(&self.prefix, topic);
        let taken = match &self.inner {
            Inner::V4(client, _) => {
                client.publish(topic, qos4(qos), retain, payload).map_err(|e| e.to_string())
            }
            Inner::V5(client, _) => {
                let own = |&(n, v): &(&str, &str)| (n.to_owned(), v.to_owned());
                let properties = packets::PublishProperties {
                    user_properties: user.iter().map(own).collect(),
                    ..Default::default()
                };
                client
                    .publish_with_properties(
                        topic,
                        qos5(qos),
                        retain,
                        payload.to_owned(),
                        properties,
                    )
                    .map_err(|e| e.to_string())
            }
        };
        taken.map_err(|e| Failure::new("rumqttc publishes", e))
    }

    /// Publishes at QoS 1 or 2 and waits until it is acknowledged to the end.
    ///
    /// # Errors
    /// What rumqttc reports instead.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Step {
        self.publish_with(topic, payload, qos, retain, &[])
    }

    /// Publishes with user properties, which 3.1.1 leaves out.
    ///
    /// # Errors
    /// What rumqttc reports instead.
    #[track_caller]
    pub fn publish_with(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
        user: &[(&str, &str)],
    ) -> Step {
        limits::message(&self.can, qos, retain)?;
        self.send_with(topic, payload, qos, retain, user)?;
        if qos > 0 {
            return self.until("PUBACK or PUBCOMP", |e| matches!(e, Event::Acked));
        }
        // A SUBACK on the same connection shows that the server has handled what came before it.
        self.subscribe("rumqttc/flush", 0)
    }

    /// The next message.
    ///
    /// # Errors
    /// None in time, or a connection that ended.
    #[track_caller]
    pub fn message(&mut self) -> Step<Delivered> {
        if self.inbox.is_empty() {
            self.until("PUBLISH", |e| matches!(e, Event::Message(_)))?;
        }
        if self.inbox.is_empty() { self.message() } else { Ok(self.inbox.remove(0)) }
    }

    /// Expects the next message to have this topic and payload.
    ///
    /// # Errors
    /// Another one, or none in time.
    #[track_caller]
    pub fn expect(&mut self, topic: &str, payload: &str) -> Step<Delivered> {
        let message = self.message()?;
        if message.topic == topic && message.payload == payload {
            return Ok(message);
        }
        Err(Failure::new(format!("rumqttc: {topic:?} {payload:?}"), format!("{message:?}")))
    }

    /// Sends DISCONNECT and waits for the end of the connection.
    #[track_caller]
    pub fn disconnect(mut self) {
        // An event loop that has ended already is as disconnected as it can be.
        let _ = match &self.inner {
            Inner::V4(client, _) => client.disconnect().map_err(drop),
            Inner::V5(client, _) => client.disconnect().map_err(drop),
        };
        while self.next(self.deadline, "the end").is_ok() {}
    }
}
