//! Whose a Session is, which decides what a CONNECT with its Client Identifier gets.

use std::sync::Arc;

use crate::access::Identity;
use crate::listener_rules::MountPoint;
use crate::snapshot::{HeldBy, HeldByUser};

/// Whose a Session is. `None` in its place: it was made without access rules and without a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    user: User,
    mount: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum User {
    /// No access rules were in force.
    Unchecked,
    Anonymous,
    Named(Arc<str>),
}

/// What a CONNECT gets whose Client Identifier has a Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// It may have the Session.
    Resume,
    /// It may end the Session, and not have it.
    Replace,
    /// The Session is another user's.
    Refuse,
}

impl Holder {
    pub(crate) fn new(
        identity: Option<&Identity>,
        mount: Option<&MountPoint>,
    ) -> Option<Box<Holder>> {
        let user = match identity.map(Identity::user_name) {
            None => User::Unchecked,
            Some(None) => User::Anonymous,
            Some(Some(name)) => User::Named(name.into()),
        };
        let mount = mount.map(|mount| mount.text().clone());
        (user != User::Unchecked || mount.is_some()).then(|| Box::new(Holder { user, mount }))
    }

    /// Whose a Session was in another broker.
    pub(crate) fn imported(held_by: HeldBy) -> Option<Box<Holder>> {
        let user = match held_by.user {
            HeldByUser::Unchecked => User::Unchecked,
            HeldByUser::Anonymous => User::Anonymous,
            HeldByUser::Named(name) => User::Named(name),
        };
        let mount = held_by.mount;
        (user != User::Unchecked || mount.is_some()).then(|| Box::new(Holder { user, mount }))
    }
}

/// As a state holds it, for another broker.
impl From<Option<&Holder>> for HeldBy {
    fn from(holder: Option<&Holder>) -> HeldBy {
        let Some(Holder { user, mount }) = holder else { return HeldBy::default() };
        let user = match user {
            User::Unchecked => HeldByUser::Unchecked,
            User::Anonymous => HeldByUser::Anonymous,
            User::Named(name) => HeldByUser::Named(name.clone()),
        };
        HeldBy { user, mount: mount.clone() }
    }
}

/// What a CONNECT of `new` gets where the Session of `present` is. `barred`: the access rules would not let the present
/// Client in again.
///
/// A Session from before the access rules is nobody's: whoever the rules let in may have it, so that Clients keep their
/// Sessions when access control is switched on. An anonymous Client's may be ended by a user, who must not get the
/// subscriptions and messages that anybody could have put there.
pub(crate) fn succession(
    present: Option<&Holder>,
    new: Option<&Holder>,
    barred: bool,
) -> Succession {
    let parts = |holder: Option<&Holder>| match holder {
        None => (User::Unchecked, None),
        Some(holder) => (holder.user.clone(), holder.mount.clone()),
    };
    let ((present, mount), (user, new_mount)) = (parts(present), parts(new));
    let by_right = match (&present, &user) {
        _ if mount != new_mount => Succession::Refuse,
        (User::Unchecked, _) | (_, User::Unchecked) => Succession::Resume,
        (present, user) if present == user => Succession::Resume,
        (User::Anonymous, _) => Succession::Replace,
        (User::Named(_), _) => Succession::Refuse,
    };
    match by_right {
        Succession::Refuse if barred => Succession::Replace,
        by_right => by_right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Rule;

    fn holder(user: Option<Option<&str>>, mount: Option<&str>) -> Option<Box<Holder>> {
        let identity = user.map(|user| {
            let identity = Identity::new(Rule::named("a test"));
            match user {
                Some(name) => identity.with_user_name(name),
                None => identity,
            }
        });
        let mount = mount.map(|mount| mount.parse().unwrap());
        Holder::new(identity.as_ref(), mount.as_ref())
    }

    #[test]
    fn a_session_is_its_users_pitfall_10() {
        use Succession::{Refuse, Replace, Resume};
        const UNCHECKED: Option<Option<&str>> = None;
        const NOBODY: Option<Option<&str>> = Some(None);
        const ANN: Option<Option<&str>> = Some(Some("ann"));
        const BOB: Option<Option<&str>> = Some(Some("bob"));
        for (present, new, given) in [
            (UNCHECKED, UNCHECKED, Resume),
            (UNCHECKED, NOBODY, Resume),
            (UNCHECKED, ANN, Resume),
            (NOBODY, NOBODY, Resume),
            (NOBODY, ANN, Replace),
            (ANN, ANN, Resume),
            (ANN, BOB, Refuse),
            (ANN, NOBODY, Refuse),
            (ANN, UNCHECKED, Resume),
        ] {
            for mount in [None, Some("a")] {
                let (present, new) = (holder(present, mount), holder(new, mount));
                let (present, new) = (present.as_deref(), new.as_deref());
                assert_eq!(succession(present, new, false), given, "{present:?} {new:?}");
                let to_barred = if given == Refuse { Replace } else { given };
                assert_eq!(succession(present, new, true), to_barred, "{present:?} {new:?}");
            }
        }
        for (mount, new) in [(None, Some("a")), (Some("a"), None), (Some("a"), Some("b"))] {
            let (present, new) = (holder(ANN, mount), holder(ANN, new));
            assert_eq!(succession(present.as_deref(), new.as_deref(), false), Refuse);
        }
    }
}
