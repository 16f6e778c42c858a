//! Flows as failures show them.

use std::fmt::{self, Debug, Formatter};

use super::{Copy, Flow, Message, Party, Subscription};

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for message in &self.before {
            writeln!(f, "      before: {message:?}")?;
        }
        for (i, party) in self.parties.iter().enumerate() {
            writeln!(f, "      party {i}: {party:?}")?;
        }
        for message in &self.live {
            writeln!(f, "      live: {message:?}")?;
        }
        write!(f, "      late: {:?}", self.late)
    }
}

impl Debug for Party {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "MQTT {}, Topic Alias Maximum {}", self.version, self.alias_maximum)?;
        if let Some(version) = self.comes_back_as {
            write!(f, ", leaves and comes back as {version}")?;
        }
        write!(f, ", subscribes to {:?}", self.subscriptions)
    }
}

impl Debug for Subscription {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(share) = self.share {
            write!(f, "$share/{share}/")?;
        }
        write!(f, "{} qos {}", self.filter, self.qos)?;
        let options =
            [(self.no_local, "No Local"), (self.retain_as_published, "Retain As Published")];
        for (_, name) in options.into_iter().filter(|(set, _)| *set) {
            write!(f, " + {name}")?;
        }
        if self.handling > 0 {
            write!(f, " + Retain Handling {}", self.handling)?;
        }
        self.id.map_or(Ok(()), |id| write!(f, " + identifier {id}"))
    }
}

impl Debug for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Message { from, topic, payload, qos, .. } = self;
        write!(f, "party {from} says {payload:?} to {topic:?} at qos {qos}")?;
        if self.retain {
            f.write_str(", retained")?;
        }
        if let Some(secs) = self.expiry {
            write!(f, ", expires after {secs} s")?;
        }
        if self.user {
            f.write_str(", with a User Property")?;
        }
        self.alias.map_or(Ok(()), |alias| write!(f, ", alias {alias}"))
    }
}

impl Debug for Copy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "qos {}", self.qos)?;
        match self.retain {
            Some(retain) => write!(f, " retain {retain}")?,
            None => f.write_str(" retain either")?,
        }
        if !self.ids.is_empty() {
            write!(f, " identifiers {:?}", self.ids)?;
        }
        f.write_str(if self.optional { " or none" } else { "" })
    }
}
