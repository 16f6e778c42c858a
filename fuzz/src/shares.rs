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
    let tried: Vec<_> = (0..).map_while(|tried| group.member(pick, tried)).collect();
    let keys: BTreeSet<u64> = tried.iter().map(|(member, _)| *member.cell).collect();
    assert_eq!(keys.len(), tried.len(), "each once");
    assert!(keys.iter().eq(model.keys()), "every one");
    for (member, connected) in &tried {
        assert_eq!((*connected, member.wanted.qos), model[&*member.cell], "as the model has it");
    }
    assert!(tried.is_sorted_by_key(|(_, connected)| !connected), "those that are away come last");
}
