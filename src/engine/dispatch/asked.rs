//! Who the Client of a Network Connection is, also before its CONNECT is accepted, and what is told when it is refused.

use std::sync::Arc;

use super::{Dispatch, End, Held};
use crate::access::{Identity, Rule};
use crate::engine::comings::Comer;
use crate::events::DisconnectCause;

/// The Client of a CONNECT that is not accepted, or not yet.
pub(super) struct Asked {
    client_id: Arc<str>,
    user: Option<Arc<str>>,
    /// The rule by which the access rules refuse it: the log has it already.
    refused_by: Option<Rule>,
}

impl Dispatch {
    /// Who the Client is, as far as it is known.
    fn comer(&self) -> Comer<'_> {
        let (client_id, user) = match &self.asked {
            Some(asked) => (&*asked.client_id, asked.user.as_deref()),
            None => ("", None),
        };
        Comer { client_id, user, peer: &self.peer, version: self.connection.asked_version() }
    }

    /// The same, of a Client that is let in.
    pub(super) fn comer_with<'a>(&'a self, held: &'a Held) -> Comer<'a> {
        let user = held.identity.as_ref().and_then(Identity::user_name);
        Comer { client_id: &held.cell.client_id, user, ..self.comer() }
    }

    /// Notes whose CONNECT is not accepted, or not yet.
    pub(super) fn note_asked(&mut self, client_id: impl Into<Arc<str>>, user: Option<&Arc<str>>) {
        let (client_id, user) = (client_id.into(), user.cloned());
        self.asked = Some(Box::new(Asked { client_id, user, refused_by: None }));
    }

    /// Notes the rule by which the access rules refuse a CONNECT.
    pub(super) fn note_rule(&mut self, rule: &Rule) {
        if let Some(asked) = &mut self.asked {
            asked.refused_by = Some(rule.clone());
        }
    }

    /// Tells that a CONNECT, or a peer before its CONNECT, is refused. A peer that goes by itself is not.
    pub(super) fn tell_refusal(&self, end: End) {
        let (None, DisconnectCause::ByServer(code, why)) = (&self.session, end.cause()) else {
            return;
        };
        let comings = &self.engine.comings;
        match self.asked.as_ref().and_then(|asked| asked.refused_by.as_ref()) {
            Some(rule) => comings.announce_refusal(self.comer(), code, &rule.to_string()),
            None => comings.refused(self.comer(), code, why),
        }
    }
}
