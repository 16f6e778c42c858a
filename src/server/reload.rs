//! Carries out a plan: everything that can fail first, then everything that cannot.

use std::sync::Arc;

use super::binding::{self, Unbound};
use super::loaded::Loaded;
use super::plan::{Plan, Step};
use super::{Held, ServerErrors, Shared, State};
use crate::config::Config;
use crate::listener_config::ListenerConfig;
use crate::net::bound::{Bound, Place};
use crate::net::listener::Listener;
use crate::transport::ListeningSocket;

/// A listener that was bound and does not accept yet.
struct Ready {
    name: String,
    bound: Bound,
    step: Step,
}

/// A reload that is under way.
pub(super) struct Reload<'a> {
    shared: &'a Shared,
    config: &'a Config,
    loaded: &'a Loaded,
    plan: &'a Plan,
    ready: Vec<Ready>,
    /// Listeners whose addresses were given up for new ones.
    paused: Vec<String>,
}

impl<'a> Reload<'a> {
    /// Binds everything that is new, and puts the configuration in force.
    ///
    /// # Errors
    /// An address cannot be bound. What was in force stays, and accepts.
    pub(super) async fn carry_out(
        shared: &'a Shared,
        config: &'a Config,
        loaded: &'a Loaded,
        plan: &'a Plan,
    ) -> Result<(), ServerErrors> {
        let (ready, paused) = (Vec::new(), Vec::new());
        let mut reload = Reload { shared, config, loaded, plan, ready, paused };
        let bound = reload.bind_all().await;
        // A hand-over may have begun meanwhile.
        let may_change = || shared.may_change().map_err(|errors| errors.0);
        let bound = bound.and_then(|()| may_change());
        if let Err(mut errors) = bound.and_then(|()| reload.take_places()) {
            reload.ready.clear();
            errors.extend(reload.roll_back().await);
            return Err(ServerErrors(errors));
        }
        for listener in reload.commit() {
            // Its address is free when the reload is over.
            listener.free_address().await;
        }
        Ok(())
    }

    async fn bind_all(&mut self) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        let mut in_the_way = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate() {
            if !matches!(step, Step::Bind | Step::Exchange { .. }) {
                continue;
            }
            match self.bind(index).await {
                Ok(()) => {}
                Err(Unbound { in_use: true, .. }) => in_the_way.push(index),
                Err(error) => errors.extend(error.lines),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // What listens there may be a listener that leaves.
        for index in in_the_way {
            self.make_way(&self.config.listeners[index].1).await;
            if let Err(error) = self.bind(index).await {
                errors.extend(error.lines);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn bind(&mut self, index: usize) -> Result<(), Unbound> {
        let (name, listener) = &self.config.listeners[index];
        let step = self.plan.steps[index];
        let place = self.place(name, listener);
        let material = self.loaded.tls.get(index).and_then(Option::as_ref);
        let limits = &self.config.limits;
        let bound = binding::bind(name, listener, place, limits, material).await?;
        self.ready.push(Ready { name: name.clone(), bound, step });
        Ok(())
    }

    /// Where a listener is bound: at the place of one that leaves, or its own, if somebody listens there already.
    fn place(&self, name: &str, listener: &ListenerConfig) -> Place {
        let state = self.shared.state();
        let mut old = state.config.listeners.iter().filter(|(old, _)| {
            !state.is_stopped(old) && (old == name || self.plan.leaving.contains(old))
        });
        let found = old.find(|(old, before)| is_place_of(before, listener, old == name));
        match (found, listener.is_unix()) {
            (None, _) => Place::New,
            (Some(_), true) => Place::Beside,
            (Some((old, _)), false) => match state.handles(old) {
                Some(sockets) if !sockets.is_empty() => Place::Sockets(sockets),
                _ => Place::New,
            },
        }
    }

    /// Gives up the addresses of listeners that leave, at the same port.
    async fn make_way(&mut self, listener: &ListenerConfig) {
        let leaving: Vec<String> = {
            let state = self.shared.state();
            let at_port = |name: &&String| {
                let before = state.listener(name);
                let same = before.is_some_and(|(old, _)| old.port() == listener.port());
                same && !state.is_stopped(name) && !self.paused.contains(name)
            };
            self.plan.leaving.iter().filter(at_port).cloned().collect()
        };
        for name in leaving {
            self.shared.state().hold(&name, Held::Running(Vec::new()));
            if let Some(running) = self.shared.broker.listening().find(&name) {
                running.free_address().await;
            }
            self.paused.push(name);
        }
    }

    /// Has the listeners accept again whose addresses were given up.
    async fn roll_back(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        let broker = &self.shared.broker;
        for name in std::mem::take(&mut self.paused) {
            let (config, loaded) = {
                let state = self.shared.state();
                (state.config.clone(), state.loaded.clone())
            };
            let at = config.listeners.iter().position(|(known, _)| *known == name);
            let Some(at) = at else { continue };
            let material = loaded.tls.get(at).and_then(Option::as_ref);
            let listener = &config.listeners[at].1;
            match binding::bind(&name, listener, Place::New, &config.limits, material).await {
                Ok(Bound { transport, sockets }) => {
                    broker.listening().exchange(broker.engine(), &name, transport);
                    self.shared.state().hold(&name, Held::Running(sockets));
                }
                Err(error) => {
                    let lost = error.lines.into_iter().map(|line| {
                        format!("{line}; it gave up its address for this reload and is stopped now")
                    });
                    errors.extend(lost);
                    self.shared.stop_aside(&name);
                    self.shared.state().hold(&name, Held::Stopped);
                }
            }
        }
        errors
    }

    /// The last step that may fail: Unix sockets that were bound beside others take their places.
    fn take_places(&mut self) -> Result<(), Vec<String>> {
        for Ready { name, bound, .. } in &mut self.ready {
            let Some((_, listener)) = self.config.listeners.iter().find(|(known, _)| known == name)
            else {
                continue;
            };
            bound.transport.take_place(listener).map_err(|error| {
                vec![format!("listener {name}: {listener} cannot take its place: {error}")]
            })?;
        }
        Ok(())
    }

    /// Puts everything in force. Nothing of it fails, unless the broker is being stopped. Returns the listeners that
    /// leave.
    fn commit(self) -> Vec<Arc<Listener>> {
        let Reload { shared, config, loaded, plan, ready, .. } = self;
        let broker = &shared.broker;
        broker.set_limits(config.limits.clone());
        broker.set_sys_interval(config.sys_interval);
        broker.set_denied_publish(config.access.denied_publish.unwrap_or_default());
        for (index, step) in plan.steps.iter().enumerate() {
            let (name, listener) = &config.listeners[index];
            if let Step::InPlace { rules: true, .. } | Step::Exchange { rules: true } = step {
                broker.listening().set_rules(name, listener.rules.clone());
            }
            if let Step::InPlace { tls: true, .. } = step {
                replace_tls(shared, loaded, index, name);
            }
        }
        if plan.access {
            broker.set_policy(loaded.access.policy());
        }
        let mut state = shared.state();
        let mut next = State::new(config.clone(), loaded.clone());
        for (name, step) in config.listeners.iter().map(|(name, _)| name).zip(&plan.steps) {
            if *step != Step::Bind
                && let Some(held) = state.release(name)
            {
                next.hold(name, held);
            }
        }
        let leaving = plan.leaving.iter().filter_map(|name| broker.listening().find(name));
        let leaving: Vec<Arc<Listener>> = leaving.collect();
        for name in &plan.leaving {
            shared.stop_aside(name);
        }
        for Ready { name, bound: Bound { transport, sockets }, step } in ready {
            let rules = config.listeners.iter().find(|(known, _)| *known == name);
            let rules = rules.map(|(_, listener)| listener.rules.clone()).unwrap_or_default();
            let accepts = match step {
                Step::Bind => broker.accept_on(&name, transport, rules).is_ok(),
                _ => broker.listening().exchange(broker.engine(), &name, transport),
            };
            next.hold(&name, if accepts { Held::Running(sockets) } else { Held::Stopped });
        }
        *state = next;
        leaving
    }
}

#[cfg(feature = "tls")]
fn replace_tls(shared: &Shared, loaded: &Loaded, index: usize, name: &str) {
    if let Some(Some(material)) = loaded.tls.get(index)
        && let Err(error) = shared.broker.replace_tls(name, material)
    {
        // It was checked when it was read.
        log::error!(target: "hrotti", "listener {name}: its certificate stays as it was: {error}");
    }
}

#[cfg(not(feature = "tls"))]
fn replace_tls(_: &Shared, _: &Loaded, _: usize, _: &str) {}

/// Whether a listener listens already where another one is to listen. At port 0 only the own place is known.
fn is_place_of(old: &ListenerConfig, new: &ListenerConfig, own: bool) -> bool {
    if old.is_unix() || new.is_unix() {
        return old.is_unix() && new.is_unix() && old.socket_path() == new.socket_path();
    }
    old.host() == new.host() && old.port() == new.port() && (own || new.port() != 0)
}

/// Further handles of sockets; `None` if the system gives none.
pub(super) fn handles(sockets: &[ListeningSocket]) -> Option<Vec<ListeningSocket>> {
    sockets.iter().map(|socket| socket.try_clone().ok()).collect()
}
