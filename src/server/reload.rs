//! Carries out a plan: everything that can fail first, then everything that cannot.

use std::sync::Arc;

use super::binding::{self, Unbound};
use super::loaded::Loaded;
use super::plan::{Plan, Step};
use super::{ServerErrors, Shared, State};
use crate::config::Config;
use crate::listener_config::ListenerConfig;
use crate::net::bound::{BoundListener, Place};
use crate::net::listener::Listener;
use crate::transport::{ListeningSocket, ListeningSockets, Transport as _};

/// A listener that was bound and does not accept yet.
struct Ready {
    name: String,
    transport: BoundListener,
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
        let mut errors = self.names_in_use();
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

    /// The names of new listeners under which the program has added listeners itself.
    fn names_in_use(&self) -> Vec<String> {
        let state = self.shared.state();
        let new = self.config.listeners.iter().zip(&self.plan.steps);
        let used = new.filter(|((name, _), step)| {
            **step == Step::Bind && state.is_stopped(name) && state.all.has(name)
        });
        used.map(|((name, _), _)| {
            format!(
                "listener {name}: the program has added a listener of this name itself; choose another name, or stop \
                 that listener"
            )
        })
        .collect()
    }

    async fn bind(&mut self, index: usize) -> Result<(), Unbound> {
        let (name, listener) = &self.config.listeners[index];
        let step = self.plan.steps[index];
        let place = self.place(name, listener);
        let material = self.loaded.tls.get(index).and_then(Option::as_ref);
        let limits = &self.config.limits;
        // A Unix socket that is not bound anew is another owner's, and so is its file.
        let keeps_file = listener.is_unix() && matches!(place, Place::Sockets(_));
        let transport = binding::bind(name, listener, place, limits, material).await?;
        transport.sockets().keep_files(keeps_file);
        self.ready.push(Ready { name: name.clone(), transport, step });
        Ok(())
    }

    /// Where a listener is bound: at the place of one that leaves, or its own, if somebody listens there already.
    fn place(&self, name: &str, listener: &ListenerConfig) -> Place {
        let state = self.shared.state();
        let at_place = state.config.listeners.iter().filter(|(old, before)| {
            let own = old == name;
            (own || self.plan.leaving.contains(old)) && is_place_of(before, listener, own)
        });
        let running = at_place.filter_map(|(old, _)| state.running(old)).next();
        match running.map(|running| running.sockets()) {
            None => Place::New,
            Some(sockets) if listener.is_unix() && !sockets.keeps_file() => Place::Beside,
            Some(sockets) => handles(&sockets).map_or(Place::New, Place::Sockets),
        }
    }

    /// Gives up the addresses of listeners that leave, at the same port.
    async fn make_way(&mut self, listener: &ListenerConfig) {
        if listener.is_unix() {
            return;
        }
        let leaving: Vec<Arc<Listener>> = {
            let state = self.shared.state();
            let at_port = |name: &&String| {
                let before = state.listener(name);
                let same = before.is_some_and(|(old, _)| old.port() == listener.port());
                same && !self.paused.contains(name)
            };
            let leaving = self.plan.leaving.iter().filter(at_port);
            leaving.filter_map(|name| state.running(name)).collect()
        };
        for running in leaving {
            running.free_address().await;
            self.paused.push(running.name().to_owned());
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
                Ok(transport) => {
                    broker.listening().exchange(broker.engine(), &name, transport);
                }
                Err(error) => {
                    let lost = error.lines.into_iter().map(|line| {
                        format!("{line}; it gave up its address for this reload and is stopped now")
                    });
                    errors.extend(lost);
                    self.shared.begin_to_stop(&name);
                }
            }
        }
        errors
    }

    /// The last step that may fail: Unix sockets that were bound beside others take their places.
    fn take_places(&mut self) -> Result<(), Vec<String>> {
        for Ready { name, transport, .. } in &mut self.ready {
            let Some((_, listener)) = self.config.listeners.iter().find(|(known, _)| known == name)
            else {
                continue;
            };
            transport.take_place(listener).map_err(|error| {
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
        let mut state = shared.state();
        if plan.access {
            let (new, old) = (&loaded.access, &state.loaded.access);
            if let (Some(new), Some(old)) = (new.bans(), old.bans()) {
                // Now, so that none is missed that was added while addresses were bound.
                new.take_over(old, &state.loaded.bans);
            }
            broker.set_policy(loaded.access.policy());
        }
        let mut next = State::new(config.clone(), loaded.clone(), state.all.clone());
        let stays = config.listeners.iter().zip(&plan.steps);
        for ((name, _), _) in stays.filter(|(_, step)| **step != Step::Bind) {
            next.started.extend(state.started.remove_entry(name));
        }
        let leaving = plan.leaving.iter().filter_map(|name| state.running(name));
        let leaving: Vec<Arc<Listener>> = leaving.collect();
        for listener in &leaving {
            shared.begin_to_stop(listener.name());
        }
        for Ready { name, transport, step } in ready {
            let rules = config.listeners.iter().find(|(known, _)| *known == name);
            let rules = rules.map(|(_, listener)| listener.rules.clone()).unwrap_or_default();
            if step != Step::Bind {
                broker.listening().exchange(broker.engine(), &name, transport);
                continue;
            }
            match broker.accept_on(&name, transport, rules) {
                Ok(listener) => next.note_started(&listener),
                // The broker is being stopped, or the program has used the name meanwhile.
                Err(error) => log::error!(target: "hrotti", "{}", binding::refused(&name, &error)),
            }
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

/// Further handles of sockets; `None` if they are closed, or the system gives none.
fn handles(sockets: &ListeningSockets) -> Option<Vec<ListeningSocket>> {
    sockets.duplicate().ok().filter(|sockets| !sockets.is_empty())
}
