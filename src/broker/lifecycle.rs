//! The lifecycle of a broker: running, stopping, stopped. A broker stops once: further callers, and the drop of the
//! last handle, join the stop that is under way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;

use crate::engine::state::Engine;
use crate::engine::timers::Order;
use crate::net::listener::{Listener, Listeners};
use crate::sync::lock;
use crate::time::Timestamp;

/// The stage of a broker, and a channel to wait for its end.
pub(super) struct Lifecycle {
    stage: Mutex<Stage>,
    /// A channel without messages, which closes when the broker is stopped.
    stopped: Receiver<()>,
}

enum Stage {
    /// The task of the stop drops the sender at its end.
    Running(Sender<()>),
    Stopping {
        by: Timestamp,
        /// Wakes the task of the stop when the deadline becomes earlier.
        earlier: Sender<()>,
    },
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        let (sender, stopped) = async_channel::bounded(1);
        Lifecycle { stage: Mutex::new(Stage::Running(sender)), stopped }
    }

    /// Waits until the broker is stopped.
    pub(super) async fn stopped(&self) {
        while self.stopped.recv().await.is_ok() {}
    }

    /// Begins to stop the broker, or moves the deadline of the stop that is under way forward.
    pub(super) fn stop(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        listeners: &Listeners,
        deadline: Duration,
    ) {
        let wanted = engine.now().plus(deadline);
        let mut stage = lock(&self.stage);
        match &mut *stage {
            Stage::Stopping { by, earlier } => {
                if wanted < *by {
                    *by = wanted;
                    // A full channel already holds a wake-up.
                    let _told = earlier.try_send(());
                }
            }
            Stage::Running(_) => {
                let (earlier, hurry) = async_channel::bounded(1);
                let stopping = Stage::Stopping { by: wanted, earlier };
                let Stage::Running(done) = std::mem::replace(&mut *stage, stopping) else { return };
                drop(stage);
                let listeners = begin(engine, listeners);
                let (lifecycle, engine) = (self.clone(), engine.clone());
                engine.clone().host.spawn_aside(async move {
                    lifecycle.finish(&engine, &listeners, &hurry).await;
                    drop(done);
                });
            }
        }
    }

    async fn finish(
        &self,
        engine: &Arc<Engine>,
        listeners: &[Arc<Listener>],
        hurry: &Receiver<()>,
    ) {
        let all_gone = async {
            for listener in listeners {
                listener.gone().await;
            }
        };
        let mut all_gone = std::pin::pin!(all_gone);
        loop {
            let left = self.deadline().0.saturating_sub(engine.now().0);
            let late = async {
                engine.host.sleep(Duration::from_millis(left)).await;
                Some(true)
            };
            let gone = async {
                all_gone.as_mut().await;
                Some(false)
            };
            let earlier = async {
                let _news = hurry.recv().await;
                None
            };
            match future::or(gone, future::or(late, earlier)).await {
                None => {} // the deadline is earlier now
                Some(false) => break,
                Some(true) => {
                    listeners.iter().for_each(|listener| listener.order(Order::Abort));
                    all_gone.await;
                    break;
                }
            }
        }
        engine.end_all_sessions();
        engine.comings.finish();
        engine.end_events();
    }

    fn deadline(&self) -> Timestamp {
        match &*lock(&self.stage) {
            Stage::Running(_) => Timestamp::NEVER,
            Stage::Stopping { by, .. } => *by,
        }
    }
}

/// The first part of a stop, which does not wait.
fn begin(engine: &Arc<Engine>, listeners: &Listeners) -> Vec<Arc<Listener>> {
    engine.stopping.store(true, std::sync::atomic::Ordering::Release);
    let listeners = listeners.take_all();
    for listener in &listeners {
        listener.stop_accepting();
    }
    engine.publish_all_wills();
    for listener in &listeners {
        listener.order(Order::ShuttingDown);
    }
    listeners
}
