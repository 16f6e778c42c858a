//! What a broker offers where the standard, or its make, leaves something out; and the file that says so.

use std::fmt;

use serde_json::{Map, Value};

use crate::versions::Versions;

#[cfg(test)]
mod tests;

/// A capability's value in a file: how it is read and shown.
trait Setting: Copy {
    /// What the file must hold, for the message when it does not.
    const KIND: &'static str;
    fn read(value: &Value) -> Option<Self>;
    fn show(self) -> Value;
}

impl Setting for bool {
    const KIND: &'static str = "true or false";
    fn read(value: &Value) -> Option<bool> {
        value.as_bool()
    }
    fn show(self) -> Value {
        self.into()
    }
}

impl Setting for u8 {
    const KIND: &'static str = "0, 1 or 2";
    fn read(value: &Value) -> Option<u8> {
        u8::try_from(value.as_u64()?).ok().filter(|&n| n <= 2)
    }
    fn show(self) -> Value {
        self.into()
    }
}

impl Setting for u16 {
    const KIND: &'static str = "a number from 1 to 65535";
    fn read(value: &Value) -> Option<u16> {
        u16::try_from(value.as_u64()?).ok().filter(|&n| n > 0)
    }
    fn show(self) -> Value {
        self.into()
    }
}

impl Setting for u32 {
    const KIND: &'static str = "a number of bytes, 128 or more";
    fn read(value: &Value) -> Option<u32> {
        u32::try_from(value.as_u64()?).ok().filter(|&n| n >= 128)
    }
    fn show(self) -> Value {
        self.into()
    }
}

impl Setting for Versions {
    const KIND: &'static str = "a list of \"3.1\", \"3.1.1\" and \"5\"";
    fn read(value: &Value) -> Option<Versions> {
        let names: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
        names?.join(",").parse().ok()
    }
    fn show(self) -> Value {
        self.names().into()
    }
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $key:literal, all $all:expr, least $least:expr;)*) => {
        /// What a broker offers. The keys of a capability file are these names in camelCase.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(clippy::struct_excessive_bools)]
        pub struct Capabilities {
            $($(#[doc = $doc])+ pub $field: $kind,)*
        }

        impl Capabilities {
            /// Everything: what the suite demands of hrotti.
            #[must_use]
            pub fn all() -> Capabilities {
                Capabilities { $($field: $all,)* }
            }

            /// All that the standard demands, and nothing that it leaves to the server: where a broker
            /// of any make starts.
            #[must_use]
            pub fn least() -> Capabilities {
                Capabilities { $($field: $least,)* }
            }

            /// Each key, its default in a file, and what it says.
            #[must_use]
            pub fn table() -> Vec<Key> {
                vec![$(Key {
                    name: $key,
                    default: <$kind as Setting>::show($least),
                    kind: <$kind as Setting>::KIND,
                    text: concat!($($doc),+).trim(),
                },)*]
            }

            fn set(&mut self, key: &str, value: &Value) -> Result<(), CapabilityError> {
                match key {
                    $($key => match <$kind as Setting>::read(value) {
                        Some(value) => self.$field = value,
                        None => return Err(CapabilityError(format!(
                            "{key}: {value} is not {}", <$kind as Setting>::KIND
                        ))),
                    },)*
                    other => return Err(unknown(other)),
                }
                Ok(())
            }

            /// Every capability by its key.
            #[must_use]
            pub fn to_json(&self) -> Map<String, Value> {
                let mut map = Map::new();
                $(map.insert($key.into(), Setting::show(self.$field));)*
                map
            }
        }
    };
}

capabilities! {
    /// The protocol versions that it speaks.
    versions: Versions = "versions", all Versions::ALL, least Versions::ALL;
    /// Says DISCONNECT with a reason before it closes a version 5 connection for a fault.
    server_disconnect: bool = "serverDisconnect", all true, least false;
    /// Sends topic aliases of its own when the client allows them.
    outgoing_aliases: bool = "outgoingAliases", all true, least false;
    /// Gives nothing to a shared subscription's member that is away while another is connected.
    away_members_passed_over: bool = "awayMembersPassedOver", all true, least false;
    /// The highest QoS that it grants and takes; what is above is skipped.
    maximum_qos: u8 = "maximumQos", all 2, least 2;
    /// Stores retained messages.
    retained_messages: bool = "retainedMessages", all true, least true;
    /// Keeps a Session after its connection.
    persistent_sessions: bool = "persistentSessions", all true, least true;
    /// Takes Topic Filters with `+` and `#`.
    wildcard_subscriptions: bool = "wildcardSubscriptions", all true, least true;
    /// Takes and returns Subscription Identifiers.
    subscription_identifiers: bool = "subscriptionIdentifiers", all true, least true;
    /// Takes `$share/NAME/FILTER`.
    shared_subscriptions: bool = "sharedSubscriptions", all true, least true;
    /// Takes an empty Client Identifier and assigns one of its own.
    empty_client_ids: bool = "emptyClientIds", all true, least true;
    /// Accepts clients with any user name and password.
    any_credentials: bool = "anyCredentials", all true, least true;
    /// Accepts a Keep Alive of 0; where it does not, clients ask for 60 seconds.
    zero_keep_alive: bool = "zeroKeepAlive", all true, least true;
    /// Lets clients subscribe and publish to topics that begin with `$`.
    dollar_topics: bool = "dollarTopics", all true, least true;
    /// Takes the protocol levels 0x83 and 0x84, by which bridges of 3.1 and 3.1.1 make themselves known.
    bridge_levels: bool = "bridgeLevels", all true, least false;
    /// How many messages above QoS 0 it sends before the first of them is acknowledged.
    maximum_inflight: u16 = "maximumInflight", all u16::MAX, least u16::MAX;
    /// The largest packet that it takes, in bytes.
    maximum_packet_size: u32 = "maximumPacketSize", all u32::MAX, least u32::MAX;
}

/// One key of a capability file.
#[derive(Debug, Clone)]
pub struct Key {
    /// How the file names it.
    pub name: &'static str,
    /// Its value when the file does not have it.
    pub default: Value,
    /// What values there are.
    pub kind: &'static str,
    /// What it says of the broker.
    pub text: &'static str,
}

/// Why a capability file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityError(String);

impl fmt::Display for CapabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CapabilityError {}

impl Capabilities {
    /// Reads a capability file: a JSON object; what it does not name is as in [`Capabilities::least`].
    ///
    /// # Errors
    /// Text that is no JSON object, an unknown key (with the nearest known one), a value of another kind.
    ///
    /// ```
    /// use hrotti_conformance::Capabilities;
    ///
    /// let can = Capabilities::from_json(r#"{"maximumQos": 1, "versions": ["3.1.1"]}"#)?;
    /// assert_eq!(can.maximum_qos, 1);
    /// let error = Capabilities::from_json(r#"{"maximumQoS": 1}"#).unwrap_err();
    /// assert!(error.to_string().contains("maximumQos"));
    /// # Ok::<(), hrotti_conformance::CapabilityError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Capabilities, CapabilityError> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| CapabilityError(format!("no JSON: {e}")))?;
        let Value::Object(map) = value else {
            return Err(CapabilityError("not a JSON object".into()));
        };
        let mut can = Capabilities::least();
        for (key, value) in &map {
            can.set(key, value)?;
        }
        Ok(can)
    }
}

fn unknown(key: &str) -> CapabilityError {
    let table = Capabilities::table();
    let part = |known: &str| known.to_lowercase().contains(&key.to_lowercase());
    let nearest = table.iter().min_by_key(|known| (!part(known.name), distance(known.name, key)));
    let nearest = nearest.map_or("", |known| known.name);
    CapabilityError(format!("{key:?} is no capability; the nearest is {nearest:?}"))
}

/// How many characters must be put in, left out or replaced to make one word the other, case aside.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
