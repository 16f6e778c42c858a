//! What all connections of one admin listener share.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_channel::{Receiver, Sender};
use async_lock::{Mutex, Semaphore, SemaphoreGuardArc};
use bytes::Bytes;
use futures_lite::future;
use log::debug;
use serde_json::Value;

use super::answer::Problem;
use super::guard::Guard;
use super::history::History;
use super::looks::Looks;
use super::operator::Operator;
use crate::broker::Broker;
use crate::counters::{Counts, count_one};
use crate::limits::Limits;
use crate::runtime::{self, EventLoops};
use crate::time::Timestamp;

/// What all connections of one admin listener share.
pub(super) struct Desk {
    pub(super) broker: Broker,
    pub(super) guard: Guard,
    pub(super) operator: Option<Arc<dyn Operator>>,
    pub(super) started_at: SystemTime,
    /// The description of the interface.
    pub(super) openapi: Bytes,
    /// Event streams that may still be opened.
    streams: Arc<Semaphore>,
    /// Closed when the listener stops.
    pub(super) stopped: Receiver<()>,
    /// What the last second's listeners to live figures were told.
    pub(super) pulse: Mutex<Option<(Timestamp, Arc<Value>)>>,
    pub(super) history: History,
    pub(super) looks: Looks,
    runner: Runner,
    /// Dropped with the last task of the listener.
    _alive: Sender<()>,
}

/// Where the tasks of an admin listener run: never on the loops that carry MQTT.
pub(super) enum Runner {
    /// A loop of its own.
    Loop(EventLoops),
    /// Beside the tasks of the broker that handle no packets.
    Aside,
}

impl Runner {
    /// A loop of its own, where there are event loops and the system gives a thread.
    pub(super) fn start() -> Runner {
        EventLoops::start(1).map_or_else(
            |error| {
                debug!("admin: there is no event loop for it: {error}");
                Runner::Aside
            },
            Runner::Loop,
        )
    }
}

/// When the broker began: its clock counts from then.
fn started_at(broker: &Broker) -> SystemTime {
    let host = &broker.engine().host;
    let (wall, age) = (host.wall(), Duration::from_millis(host.now().0));
    wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}

impl Desk {
    pub(super) fn new(
        broker: Broker,
        guard: Guard,
        operator: Option<Arc<dyn Operator>>,
        openapi: Bytes,
        (stopped, alive): (Receiver<()>, Sender<()>),
    ) -> Desk {
        Desk {
            streams: Arc::new(Semaphore::new(broker.limits().admin_streams_max)),
            started_at: started_at(&broker),
            broker,
            guard,
            operator,
            openapi,
            stopped,
            pulse: Mutex::new(None),
            history: History::default(),
            looks: Looks::default(),
            runner: Runner::start(),
            _alive: alive,
        }
    }

    pub(super) fn limits(&self) -> Arc<Limits> {
        self.broker.limits()
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.broker.engine().counts
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.runner {
            Runner::Loop(event_loop) => event_loop.spawn(task),
            Runner::Aside => self.broker.engine().host.spawn_aside(task),
        }
    }

    /// A place for an event stream.
    pub(super) fn stream(&self) -> Result<SemaphoreGuardArc, Problem> {
        self.streams.try_acquire_arc().ok_or_else(|| {
            count_one(&self.counts().admin_streams_refused);
            let max = self.limits().admin_streams_max;
            Problem::new(
                503,
                format!("limits.adminStreamsMax: {max} event streams are open; close one, or raise the limit"),
            )
        })
    }

    /// The operator, or the problem that there is none.
    pub(super) fn operator(&self) -> Result<&Arc<dyn Operator>, Problem> {
        self.operator.as_ref().ok_or_else(|| {
            let text = "this broker is run by a program that lets the admin listener change nothing of its \
                        configuration; change it there";
            Problem::new(409, text)
        })
    }

    /// Waits, and returns false at once when the listener stops.
    pub(super) async fn pause(&self, duration: Duration) -> bool {
        let stopped = async {
            while self.stopped.recv().await.is_ok() {}
            false
        };
        let over = async {
            runtime::sleep(duration).await;
            true
        };
        future::or(stopped, over).await
    }
}
