//! Seeing and steering a running broker: Sessions, subscriptions, queues, retained messages and limits. What an
//! administrator asks reads the state that the broker works with; nothing is recorded for it.

mod limits;
mod pages;
mod ranked;
mod retained;
mod sessions;
mod steer;
mod subscriptions;

pub use limits::LimitUse;
pub use pages::{Page, PageError, PageRequest};
pub use retained::{RetainedInfo, RetainedQuery};
pub use sessions::{QueuedMessage, SessionDetail, SessionOrder, SessionQuery};
pub use subscriptions::{SubscriptionInfo, SubscriptionQuery};

#[cfg(test)]
mod tests;
