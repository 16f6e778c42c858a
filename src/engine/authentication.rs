//! One authentication, of a CONNECT or of a Client that is connected: the policy's future, and with an Authentication
//! Method the steps in between (section 4.12). A panic of the policy refuses.

use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::access::{
    self, Answer, Authenticating, Credentials, Identity, Policy, Refusal, Rule, Secret,
};
use crate::reason_code::ReasonCode;
use crate::runtime::contain;
use crate::time::Timestamp;

/// The name of the policy in the line about its panic.
const POLICY: &str = "an access policy";

/// Authentication Data that a packet can carry.
const DATA_BYTES_MAX: usize = u16::MAX as usize;

/// An authentication under way.
pub(crate) struct Exchange {
    step: Step,
    /// When it has to be over.
    pub(crate) by: Timestamp,
    /// The Client sent an Authentication Method.
    has_method: bool,
    /// Steps that were taken.
    steps: u16,
}

enum Step {
    /// The policy has to answer.
    Deciding(Authenticating),
    /// The Client has to answer.
    Waiting(Box<dyn access::Exchange>),
    Over,
}

/// What an authentication has come to.
#[derive(Debug)]
pub(crate) enum Decided {
    Accepted {
        identity: Identity,
        data: Vec<u8>,
    },
    Refused(Refusal),
    /// `authentication_steps_max` is reached.
    TooManySteps,
    /// `connect_decision_timeout` has passed.
    Late,
    /// AUTH with this data is to be sent.
    Ask(Vec<u8>),
}

impl Exchange {
    pub(crate) fn begin(policy: Arc<dyn Policy>, shown: Credentials, by: Timestamp) -> Exchange {
        let has_method = shown.authentication_method.is_some();
        let answer = contain(POLICY, || policy.authenticate(shown));
        Exchange { step: Step::Deciding(answer.unwrap_or_else(panicked)), by, has_method, steps: 0 }
    }

    /// Whether the policy has to answer.
    pub(crate) fn is_deciding(&self) -> bool {
        matches!(self.step, Step::Deciding(_))
    }

    /// Whether the Client has to answer.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.step, Step::Waiting(_))
    }

    /// The Client's answer, if it has to answer.
    pub(crate) fn proceed(&mut self, data: Secret) {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Waiting(exchange) => {
                let answer = contain(POLICY, || exchange.proceed(data));
                self.step = Step::Deciding(answer.unwrap_or_else(panicked));
            }
            other => self.step = other,
        }
    }

    /// Polls the policy's future. Ready once for each answer.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        steps_max: u16,
    ) -> Poll<Decided> {
        let answer = match &mut self.step {
            Step::Deciding(future) => match contain(POLICY, || future.as_mut().poll(cx)) {
                None => Answer::Refuse(refusal_by_panic()),
                Some(Poll::Ready(answer)) => answer,
                Some(Poll::Pending) if now < self.by => return Poll::Pending,
                Some(Poll::Pending) => return Poll::Ready(Decided::Late),
            },
            Step::Waiting(_) if now < self.by => return Poll::Pending,
            Step::Waiting(_) => return Poll::Ready(Decided::Late),
            Step::Over => return Poll::Pending,
        };
        self.finish();
        Poll::Ready(self.decided(answer, steps_max))
    }

    fn decided(&mut self, answer: Answer, steps_max: u16) -> Decided {
        match answer {
            Answer::NoAnswer if self.has_method && self.steps == 0 => {
                let rule = Rule::named("no policy has this Authentication Method");
                Decided::Refused(Refusal::new(ReasonCode::BAD_AUTHENTICATION_METHOD, rule))
            }
            Answer::NoAnswer => {
                Decided::Refused(Refusal::not_authorized(Rule::named("no policy knows the Client")))
            }
            Answer::Accept { data, .. } | Answer::Continue { data, .. }
                if data.len() > DATA_BYTES_MAX =>
            {
                let rule =
                    Rule::named("the policy's Authentication Data has more than 65535 bytes");
                Decided::Refused(Refusal::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, rule))
            }
            Answer::Accept { identity, data } => Decided::Accepted { identity, data },
            Answer::Refuse(refusal) => Decided::Refused(refusal),
            Answer::Continue { .. } if !self.has_method => {
                let rule = "the policy asks for more, and the Client has no Authentication Method";
                Decided::Refused(Refusal::not_authorized(Rule::named(rule)))
            }
            Answer::Continue { .. } if self.steps >= steps_max => Decided::TooManySteps,
            Answer::Continue { data, next } => {
                self.steps += 1;
                self.step = Step::Waiting(next);
                Decided::Ask(data)
            }
        }
    }

    /// Drops what the policy made, which may panic.
    fn finish(&mut self) {
        let step = std::mem::replace(&mut self.step, Step::Over);
        contain(POLICY, || drop(step));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
    }
}

fn refusal_by_panic() -> Refusal {
    Refusal::new(ReasonCode::SERVER_UNAVAILABLE, Rule::named("the policy panicked"))
}

fn panicked() -> Authenticating {
    Box::pin(ready(Answer::Refuse(refusal_by_panic())))
}
