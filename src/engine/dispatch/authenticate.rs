//! The authentication of a Network Connection's Client: at CONNECT, again while it is connected, and its end.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Dispatch, End, Parked, Work};
use crate::access::{Credentials, Identity, Refusal, Rule, Secret};
use crate::counters::count_one;
use crate::engine::access::{Rules, Subject};
use crate::engine::authentication::{Decided, Exchange};
use crate::engine::connect::{Admitted, mounted_name};
use crate::engine::fetching::Fetching;
use crate::engine::holder::Holder;
use crate::error::Fault;
use crate::packet::decode::decode_connect;
use crate::packet::{Connect, PacketType, ReasonCode, encode};
use crate::time::Timestamp;
use crate::traffic::Moved;

/// The longest time between two looks at the clock on the wall, which may be set.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(60);

/// What a Network Connection keeps of the authentication of its Client: nothing without a policy, and little that lasts.
pub(super) struct Authentication {
    /// The Authentication Method of CONNECT, which is that of every AUTH (MQTT-4.12.0-5, 4.12.1-1).
    method: Option<Arc<str>>,
    /// The CONNECT that is being decided.
    connect: Option<Undecided>,
    /// What is under way.
    exchange: Option<Exchange>,
    /// The rules that decide a re-authentication.
    again: Option<Rules>,
    ends: Option<Ends>,
    /// A CONNECT whose Client is let in, and whose Will waits for the policy.
    admitting: Option<Box<Admitting>>,
}

/// A CONNECT that is accepted as soon as the policy can be asked for its Will.
struct Admitting {
    connect: Undecided,
    identity: Identity,
    data: Vec<u8>,
    fetching: Fetching,
}

/// A CONNECT that is being decided. Its bytes are kept, and decoded again when it is decided.
struct Undecided {
    header: u8,
    body: Bytes,
    client_id: Arc<str>,
    user: Option<Arc<str>>,
    /// The Server has assigned the Client Identifier.
    assigned: bool,
    /// The rules that decide.
    rules: Rules,
}

/// The end of an identity.
#[derive(Debug, Clone, Copy)]
struct Ends {
    at: SystemTime,
    /// When the clock on the wall is to be read next.
    look_at: Timestamp,
}

impl Dispatch {
    /// Whether a CONNECT waits for the policy: nothing is read before it has answered.
    pub(crate) fn is_deciding(&self) -> bool {
        self.authentication.as_deref().is_some_and(|authentication| {
            if authentication.admitting.is_some() {
                return true;
            }
            authentication.connect.is_some()
                && authentication.exchange.as_ref().is_some_and(Exchange::is_deciding)
        })
    }

    /// Whether a CONNECT is being decided: it waits for the policy, or for the Client's AUTH.
    pub(crate) fn is_undecided(&self) -> bool {
        self.authentication
            .as_deref()
            .is_some_and(|it| it.connect.is_some() || it.admitting.is_some())
    }

    /// When the clock is to be looked at: for the end of an authentication under way, or of the identity.
    pub(crate) fn authentication_deadline(&self) -> Timestamp {
        let Some(authentication) = self.authentication.as_deref() else { return Timestamp::NEVER };
        let exchange = authentication.exchange.as_ref().map_or(Timestamp::NEVER, |it| it.by);
        let admitting = authentication.admitting.as_ref();
        let exchange = exchange.min(admitting.map_or(Timestamp::NEVER, |it| it.fetching.by));
        exchange.min(authentication.ends.map_or(Timestamp::NEVER, |ends| ends.look_at))
    }

    // ---- CONNECT ---------------------------------------------------------------------------------

    pub(super) fn connect(
        &mut self,
        header: u8,
        body: &[u8],
        connect: &Connect<'_>,
        now: Timestamp,
    ) -> Result<(), End> {
        let engine = &self.engine;
        let assigned = connect.client_id.is_empty().then(|| engine.assign_client_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let rules = engine.access.rules();
        let Some(policy) = rules.policy.clone() else {
            if connect.authentication_method.is_some() {
                let detail = "MQTT-4.12.0-1: no Authentication Method is supported";
                return Err(Fault::Refused(ReasonCode::BAD_AUTHENTICATION_METHOD, detail).into());
            }
            let assigned = assigned.is_some();
            let limits = &*self.connection.limits().clone();
            let admitted = Admitted { client_id, assigned, identity: None, rules: &rules, limits };
            return self.open(connect, &admitted, now);
        };
        let client_id: Arc<str> = client_id.into();
        let user: Option<Arc<str>> = connect.user_name.map(Into::into);
        let method: Option<Arc<str>> = connect.authentication_method.map(Into::into);
        let shown = Credentials {
            client_id: client_id.clone(),
            user_name: user.clone(),
            password: connect.password.map(Secret::new),
            version: connect.version,
            peer: self.peer.clone(),
            authentication_method: method.clone(),
            authentication_data: Secret::new(connect.authentication_data.unwrap_or_default()),
        };
        let by = now.plus(self.connection.limits().connect_decision_timeout);
        let connect = Undecided {
            header,
            body: Bytes::copy_from_slice(body),
            client_id,
            user,
            assigned: assigned.is_some(),
            rules,
        };
        self.authentication = Some(Box::new(Authentication {
            method,
            connect: Some(connect),
            exchange: Some(Exchange::begin(policy, shown, by)),
            again: None,
            ends: None,
            admitting: None,
        }));
        Ok(())
    }

    /// Continues an authentication that is under way.
    pub(crate) fn authenticate(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        let Some(authentication) = self.authentication.as_deref_mut() else { return Ok(()) };
        if authentication.admitting.is_some() {
            return self.admit_when_ready(cx, now);
        }
        let Some(exchange) = &mut authentication.exchange else { return Ok(()) };
        let steps_max = self.connection.limits().authentication_steps_max;
        let Poll::Ready(decided) = exchange.poll(cx, now, steps_max) else { return Ok(()) };
        if let Decided::Ask(data) = &decided {
            self.connection.ask(data, &mut self.answers)?;
            self.count_auth();
            return Ok(());
        }
        let by = exchange.by;
        authentication.exchange = None;
        let connect = authentication.connect.take();
        match (decided, connect) {
            (Decided::Accepted { identity, data }, Some(connect)) => {
                let Some(fetching) = self.fetching_for_will(&connect, &identity, by) else {
                    return self.admit(connect, identity, data, now);
                };
                if let Some(authentication) = self.authentication.as_deref_mut() {
                    let admitting = Admitting { connect, identity, data, fetching };
                    authentication.admitting = Some(Box::new(admitting));
                }
                self.admit_when_ready(cx, now)
            }
            (Decided::Accepted { identity, data }, None) => self.accept_again(identity, &data, now),
            (Decided::Refused(refusal), connect) => {
                Err(self.refused(&refusal, connect.as_ref()).into())
            }
            (Decided::TooManySteps, connect) => {
                count_one(&self.engine.counts.authentication_steps_exceeded);
                let rule = Rule::named("authentication_steps_max is reached");
                Err(self.refused(&Refusal::not_authorized(rule), connect.as_ref()).into())
            }
            (Decided::Late, Some(_)) => {
                count_one(&self.engine.counts.connects_undecided);
                let detail = "connect_decision_timeout: the CONNECT was not decided in time";
                Err(Fault::Refused(ReasonCode::SERVER_UNAVAILABLE, detail).into())
            }
            (Decided::Late, None) => {
                count_one(&self.engine.counts.connects_undecided);
                let detail =
                    "connect_decision_timeout: the re-authentication was not decided in time";
                Err(Fault::Server(ReasonCode::NOT_AUTHORIZED, detail).into())
            }
            (Decided::Ask(_), _) => Ok(()),
        }
    }

    /// What a CONNECT has to wait for before the policy can be asked for its Will, within the time of the decision.
    fn fetching_for_will(
        &self,
        undecided: &Undecided,
        identity: &Identity,
        by: Timestamp,
    ) -> Option<Fetching> {
        let connect = decode_connect(undecided.header, &undecided.body).ok()?;
        let topic = mounted_name(self.peer.mount_point(), connect.will.as_ref()?.topic);
        let access = &self.engine.access;
        let preparing = access.prepare_will(&undecided.client_id, identity, &topic)?;
        Some(Fetching::new(vec![preparing], by))
    }

    /// Carries out a CONNECT that was accepted, unless its Will still waits.
    fn admit_when_ready(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        let Some(authentication) = self.authentication.as_deref_mut() else { return Ok(()) };
        let over = |admitting: &mut Box<Admitting>| admitting.fetching.is_over(cx, now);
        match authentication.admitting.take_if(over) {
            None => Ok(()),
            Some(admitting) => {
                let Admitting { connect, identity, data, .. } = *admitting;
                self.admit(connect, identity, data, now)
            }
        }
    }

    /// Carries out a CONNECT that the policy has accepted.
    fn admit(
        &mut self,
        undecided: Undecided,
        identity: Identity,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), End> {
        let ends = self.ends(&identity, now);
        if ends.is_some_and(|ends| ends.look_at <= now) {
            return Err(self.refused(&has_ended(&identity), Some(&undecided)).into());
        }
        let Undecided { header, body, client_id, assigned, rules, .. } = undecided;
        let Ok(connect) = decode_connect(header, &body) else {
            return Err(End::Broken("a CONNECT that was read once cannot be read again"));
        };
        self.connection.grant(&connect, data)?;
        let identity = Some(identity);
        let (client_id, limits) = (&*client_id, &*self.connection.limits().clone());
        let admitted = Admitted { client_id, assigned, identity, rules: &rules, limits };
        self.open(&connect, &admitted, now)?;
        match &mut self.authentication {
            Some(kept) if kept.method.is_some() || ends.is_some() => kept.ends = ends,
            none => *none = None,
        }
        Ok(())
    }

    // ---- AUTH ------------------------------------------------------------------------------------

    /// AUTH from the Client: its answer, or with `again` the beginning of a re-authentication (section 4.12.1).
    pub(super) fn auth(&mut self, again: bool, data: &[u8], now: Timestamp) -> Result<(), End> {
        let unexpected =
            End::Fault(Fault::Protocol("section 4.12: an AUTH that nothing has asked for"));
        let Some(authentication) = self.authentication.as_deref_mut() else {
            return Err(unexpected);
        };
        let data = Secret::new(data);
        match (&mut authentication.exchange, again) {
            (Some(exchange), false) if exchange.is_waiting() => {
                exchange.proceed(data);
                Ok(())
            }
            (None, true) => self.begin_again(data, now),
            _ => Err(unexpected),
        }
    }

    fn begin_again(&mut self, data: Secret, now: Timestamp) -> Result<(), End> {
        let rules = self.engine.access.rules();
        let (Some(held), Some(policy)) = (&self.session, rules.policy.clone()) else {
            let detail = "the access rules have been removed";
            return Err(Fault::Server(ReasonCode::NOT_AUTHORIZED, detail).into());
        };
        let Some(authentication) = self.authentication.as_deref_mut() else { return Ok(()) };
        let shown = Credentials {
            client_id: held.cell.client_id.clone(),
            user_name: None,
            password: None,
            version: self.connection.version(),
            peer: self.peer.clone(),
            authentication_method: authentication.method.clone(),
            authentication_data: data,
        };
        let by = now.plus(self.connection.limits().connect_decision_timeout);
        authentication.exchange = Some(Exchange::begin(policy, shown, by));
        authentication.again = Some(rules);
        Ok(())
    }

    /// A re-authentication has succeeded: the Client has another identity.
    fn accept_again(&mut self, identity: Identity, data: &[u8], now: Timestamp) -> Result<(), End> {
        let ends = self.ends(&identity, now);
        if ends.is_some_and(|ends| ends.look_at <= now) {
            return Err(self.refused(&has_ended(&identity), None).into());
        }
        let rules = self.authentication.as_deref_mut().and_then(|kept| kept.again.take());
        let rules = rules.unwrap_or_default();
        if let (Some(held), Some(mut state)) = (&self.session, self.state()) {
            let holder = Holder::new(Some(&identity), self.peer.mount_point());
            held.cell.set_holder(holder.as_deref());
            let subject = Subject::new(identity.clone()).with_peer(&self.peer);
            state.subject = Some(subject.admitted_by(rules.number));
            if self.engine.access.generation() != rules.generation {
                self.engine.recheck(&held.cell, &state); // the rules have changed since they accepted it
            }
        }
        // What the identity before was allowed: its routes, also that of a PUBLISH that is not carried out yet.
        self.forget_routes();
        if let Some(Parked(_, Some(Work::Publish(publishing, ..)))) = self.parked.as_deref_mut() {
            publishing.forget_permit();
        }
        if let Some(held) = &mut self.session {
            held.identity = Some(identity);
        }
        if let Some(authentication) = self.authentication.as_deref_mut() {
            authentication.ends = ends;
        }
        Ok(self.connection.accept_again(data, &mut self.answers)?)
    }

    /// Counts an AUTH before CONNACK where it is made: it is written without a Session. Later ones are in batches.
    fn count_auth(&self) {
        if !self.connection.is_connected() {
            let mut moved = Moved::default();
            moved.packets.add((PacketType::Auth as u8) << 4, 1);
            self.engine.traffic.sent(&moved);
        }
    }

    // ---- Refusals and ends -----------------------------------------------------------------------

    /// The fault that tells the Client of a refusal, which is counted and logged. `None`: of a re-authentication.
    fn refused(&self, refusal: &Refusal, connect: Option<&Undecided>) -> Fault {
        let access = &self.engine.access;
        let Some(connect) = connect else {
            let id = self.session.as_ref().map_or("", |held| &held.cell.client_id);
            access.refused(id, None, &self.peer, refusal);
            let reason = reason_in_disconnect(refusal.reason());
            return Fault::Server(reason, "section 4.12.1: the re-authentication has failed");
        };
        access.refused(&connect.client_id, connect.user.as_deref(), &self.peer, refusal);
        let reason = refusal.reason();
        let told = self.connection.is_v5() || encode::connack_return_code(reason).is_some();
        Fault::Refused(if told { reason } else { ReasonCode::NOT_AUTHORIZED }, detail(reason))
    }

    fn ends(&self, identity: &Identity, now: Timestamp) -> Option<Ends> {
        let at = identity.expires_at()?;
        Some(Ends { at, look_at: next_look(at, self.engine.host.wall(), now) })
    }

    /// Ends the Network Connection when the identity of its Client has ended.
    pub(crate) fn check_identity(&mut self, now: Timestamp) -> Result<(), End> {
        let ends = self.authentication.as_deref_mut().and_then(|kept| kept.ends.as_mut());
        let Some(ends) = ends.filter(|ends| ends.look_at <= now) else { return Ok(()) };
        ends.look_at = next_look(ends.at, self.engine.host.wall(), now);
        if now < ends.look_at {
            return Ok(());
        }
        count_one(&self.engine.counts.identities_expired);
        let detail = "the identity of the Client has ended";
        Err(Fault::Server(ReasonCode::MAXIMUM_CONNECT_TIME, detail).into())
    }
}

/// When to read the clock again for something that ends `at`; `now` if it has ended.
fn next_look(at: SystemTime, wall: SystemTime, now: Timestamp) -> Timestamp {
    match at.duration_since(wall) {
        Ok(left) if !left.is_zero() => {
            now.plus(left.clamp(Duration::from_millis(1), LOOK_AT_THE_CLOCK))
        }
        _ => now,
    }
}

fn has_ended(identity: &Identity) -> Refusal {
    let rule = identity.rule();
    Refusal::not_authorized(Rule::line("an identity that has ended", 0, &rule.to_string()))
}

/// The text for the Client. It names no rule.
fn detail(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => "the User Name or the Password is wrong",
        ReasonCode::NOT_AUTHORIZED => "the access rules do not let this Client connect",
        ReasonCode::BAD_AUTHENTICATION_METHOD => {
            "MQTT-4.12.0-1: this Authentication Method is not supported"
        }
        ReasonCode::BANNED => "this Client is banned",
        _ => "the access rules refuse this CONNECT",
    }
}

/// The Reason Code in a Server's DISCONNECT (table 3-10), which has fewer than CONNACK.
fn reason_in_disconnect(reason: ReasonCode) -> ReasonCode {
    match reason.value() {
        0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x8F | 0x90 | 0x93..=0xA2 => reason,
        _ => ReasonCode::NOT_AUTHORIZED,
    }
}
