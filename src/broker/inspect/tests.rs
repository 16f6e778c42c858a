//! How much of a large broker one question touches.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{PageRequest, RetainedQuery, SessionOrder, SessionQuery, SubscriptionQuery};
use crate::broker::{Broker, Client};
use crate::engine::session_cell::testing::LOCKED;
use crate::message::Message;
use crate::packet::SubscriptionOptions;
use crate::topic::TopicFilter;

const SESSIONS: usize = 10_000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(future)
}

/// A broker with Sessions `0` to `9999`, of which each subscribes to its own Topic Name.
fn crowded() -> (Broker, Vec<Client>) {
    let broker = Broker::new(10);
    let clients = (0..SESSIONS).map(|number| {
        let client = broker.client(&format!("{number:04}")).unwrap();
        let filter = TopicFilter::new(&format!("to/{number:04}")).unwrap();
        block_on(client.subscribe(&filter, SubscriptionOptions::default())).unwrap();
        client
    });
    let clients = clients.collect();
    (broker, clients)
}

/// What the future returns, and the Sessions that were locked in each of its turns.
fn turns<T>(future: impl Future<Output = T>) -> (T, Vec<usize>) {
    let (mut future, mut turns) = (pin!(future), Vec::new());
    loop {
        LOCKED.take();
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        turns.push(LOCKED.take().len());
        if let Poll::Ready(done) = polled {
            return (done, turns);
        }
    }
}

#[test]
fn a_page_of_10_000_sessions_locks_those_of_the_page_alone() {
    let (broker, _clients) = crowded();
    let mut query = SessionQuery::default();
    query.page = PageRequest::new(150, 50).unwrap();
    for (connected, search, found) in
        [(None, None, SESSIONS), (Some(true), None, SESSIONS), (None, Some(""), SESSIONS)]
    {
        query.connected = connected;
        query.search = search.map(str::to_owned);
        let (page, locked) = turns(broker.find_sessions(&query));
        assert_eq!((page.count, page.items.len()), (found, 50));
        assert_eq!(page.items[0].client_id, "7450");
        assert_eq!(locked.iter().sum::<usize>(), 50, "{locked:?}");
        assert!(locked.len() > 1, "it yields: {locked:?}");
    }
    query.connected = Some(false);
    let (page, locked) = turns(broker.find_sessions(&query));
    assert_eq!((page.count, locked.iter().sum::<usize>()), (0, 0));
}

#[test]
fn a_question_that_needs_every_session_locks_each_once_in_many_turns() {
    let (broker, _clients) = crowded();
    let mut query = SessionQuery::default();
    query.order = SessionOrder::Waiting;
    block_on(broker.publish(Message::new("to/4711", "x").unwrap())).unwrap();
    let (page, locked) = turns(broker.find_sessions(&query));
    assert_eq!((page.count, &*page.items[0].client_id), (SESSIONS, "4711"));
    assert_eq!(locked.iter().sum::<usize>(), SESSIONS + 50, "each, and the page");
    assert!(locked.iter().all(|&locked| locked <= 4_000), "{locked:?}");
    // The identifiers of some are enough to know that they match.
    query.order = SessionOrder::ClientId;
    query.search = Some("47".to_owned());
    let (page, locked) = turns(broker.find_sessions(&query));
    assert_eq!(locked.iter().sum::<usize>(), SESSIONS - page.count + page.items.len());
}

#[test]
fn subscriptions_to_a_topic_lock_those_that_have_them_alone() {
    let (broker, clients) = crowded();
    let all = TopicFilter::new("to/+").unwrap();
    block_on(clients[7].subscribe(&all, SubscriptionOptions::default())).unwrap();
    let mut query = SubscriptionQuery::default();
    query.topic = Some("to/0042".parse().unwrap());
    let (page, locked) = turns(broker.find_subscriptions(&query));
    let found: Vec<_> = page.items.iter().map(|one| &*one.client_id).collect();
    assert_eq!(found, ["0007", "0042"]);
    assert_eq!(locked.iter().sum::<usize>(), 2);
    query.topic = None;
    query.filter = Some("to/0042".to_owned());
    let (page, locked) = turns(broker.find_subscriptions(&query));
    assert_eq!((page.count, locked.iter().sum::<usize>()), (1, SESSIONS));
    assert!(locked.iter().all(|&locked| locked <= 4_000), "{locked:?}");
    query.client_id = Some("0042".to_owned());
    let (page, locked) = turns(broker.find_subscriptions(&query));
    assert_eq!((page.count, locked), (1, vec![1]));
}

#[test]
fn many_retained_messages_are_searched_and_removed_in_many_turns() {
    let broker = Broker::new(10);
    let all = TopicFilter::new("#").unwrap();
    for number in 0..SESSIONS * 3 {
        let message = Message::new(&format!("a/{number}"), "x").unwrap().with_retain(true);
        block_on(broker.publish(message)).unwrap();
    }
    let (page, found) = turns(broker.find_retained(&RetainedQuery::new(all.clone())));
    assert_eq!(page.count, SESSIONS * 3);
    assert!(found.len() > 1, "it yields");
    let (cleared, removed) = turns(broker.clear_retained(&all));
    assert_eq!((cleared, broker.counters().retained_messages), (SESSIONS * 3, 0));
    assert!(removed.len() > 1, "it yields");
}
