//! A shared subscription against a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::input::Input;
use crate::engine::share::{Group, Member};
use crate::packet::{QoS, SubscriptionOptions};
use crate::subscription::{Subscription, Wanted};

fn member(key: u64, qos: QoS) -> Member<u64> {
    let subscription = Subscription { options: SubscriptionOptions::with_qos(qos), id: None };
    let wanted = Wanted::merge(&[subscription]).expect("one subscription");
    Member { cell: Arc::new(key), wanted }
}

pub(super) fn share(data: &[u8]) {
    let mut input = Input::new(data);
    let group = Group::default();
    // Whether each member is connected, and what it wants.
    let mut model: BTreeMap<u64, (bool, QoS)> = BTreeMap::new();
    while !input.is_empty() {
        let choice = input.below(6);
        let key = input.below(16) as u64;
        match choice {
            0 | 1 => {
                let qos = if input.flag() { QoS::ExactlyOnce } else { QoS::AtMostOnce };
                let connected = input.flag();
                group.add(key, member(key, qos), connected);
                model.insert(key, (connected, qos));
            }
            2 => {
                group.remove(key);
                model.remove(&key);
            }
            3 | 4 => {
                let connected = choice == 3;
                group.set_connected(key, connected);
                if let Some(found) = model.get_mut(&key) {
                    found.0 = connected;
                }
            }
            _ => check(&group, &model),
        }
    }
    check(&group, &model);
}

fn check(group: &Group<u64>, model: &BTreeMap<u64, (bool, QoS)>) {
    let pick = group.pick();
    let tried: Vec<_> = (0..).map_while(|tried| group.connected(pick, tried)).collect();
    let keys: BTreeSet<u64> = tried.iter().map(|member| *member.cell).collect();
    let connected = model.iter().filter(|(_, (connected, _))| *connected);
    let connected: BTreeSet<u64> = connected.map(|(key, _)| *key).collect();
    assert_eq!((keys.len(), &keys), (tried.len(), &connected), "each connected one, once");
    for member in &tried {
        assert_eq!(member.wanted.qos, model[&*member.cell].1, "the newest subscription counts");
    }
    let any = group.any(pick).map(|member| *member.cell);
    assert_eq!(any.is_some(), !model.is_empty());
    let fair = any.is_none_or(|key| connected.contains(&key) || connected.is_empty());
    assert!(fair, "{any:?} is away, others are not");
    if let (Some(first), Some(any)) = (tried.first(), any) {
        assert_eq!(*first.cell, any, "the one whose turn it is");
    }
}
