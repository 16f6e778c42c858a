//! Cases against running brokers, several at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Step};
use crate::register::Case;
use crate::target::{Server, Target};
use crate::versions::Versions;

#[cfg(test)]
mod tests;

/// Cases that subscribe beyond their own topics: what the others publish could fill their queues, so each runs
/// by itself after the rest.
const BY_THEMSELVES: &[(&str, &str)] =
    &[("strings", "byte_order_mark_is_kept"), ("subscribe", "wildcards_pass_over_dollar_topics")];

/// How a case ended.
#[derive(Debug)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not hold.
    Failed(Failure),
    /// It had nothing to test here: why.
    Skipped(String),
}

/// What one run of a case showed.
#[derive(Debug)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The versions that it opened connections with.
    pub used: Versions,
    /// The versions that it has parts for, and that were left out.
    pub left_out: Versions,
    /// The versions with which it failed: each that it used is tried alone. All that it used, where none
    /// fails alone.
    pub failed_with: Versions,
    /// The versions with which it held, each tried alone if it failed.
    pub passed_with: Versions,
}

/// A case and what to run it against.
#[derive(Clone)]
pub struct Job {
    /// The case.
    pub case: Case,
    /// The broker.
    pub target: Arc<dyn Target + Send + Sync>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("case", &self.case).finish_non_exhaustive()
    }
}

/// What happens during a run, by the place of the job in the list.
#[derive(Debug)]
pub enum Event<'a> {
    /// A job began.
    Began(usize),
    /// A job ended.
    Ended(usize, &'a Verdict),
}

/// Runs every job, at most `workers` (1 or more) at a time, and returns the verdicts in the order of the
/// jobs. A case that is still running after `limit` has failed; it is left behind, and ends with the process.
/// `see` is called on the calling thread.
pub fn run(
    jobs: &[Job],
    workers: usize,
    limit: Duration,
    mut see: impl FnMut(&Event<'_>),
) -> Vec<Verdict> {
    let mut verdicts: Vec<Option<Verdict>> = jobs.iter().map(|_| None).collect();
    let by_itself = |job: &Job| BY_THEMSELVES.contains(&(job.case.chapter, job.case.name));
    let (single, together): (Vec<_>, Vec<_>) =
        jobs.iter().enumerate().partition(|(_, job)| by_itself(job));
    for (jobs, workers) in [(together, workers), (single, 1)] {
        let next = AtomicUsize::new(0);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..workers.clamp(1, jobs.len().max(1)) {
                let tell = tell.clone();
                let (jobs, next) = (&jobs, &next);
                scope.spawn(move || work(jobs, next, limit, &tell));
            }
            drop(tell);
            for (i, verdict) in told {
                match verdict {
                    None => see(&Event::Began(i)),
                    Some(verdict) => {
                        see(&Event::Ended(i, &verdict));
                        verdicts[i] = Some(verdict);
                    }
                }
            }
        });
    }
    verdicts.into_iter().flatten().collect()
}

fn work(
    jobs: &[(usize, &Job)],
    next: &AtomicUsize,
    limit: Duration,
    tell: &Sender<(usize, Option<Verdict>)>,
) {
    while let Some(&(i, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        // The receiver outlives every worker.
        let _ = tell.send((i, None));
        let _ = tell.send((i, Some(judge(job, limit))));
    }
}

fn judge(job: &Job, limit: Duration) -> Verdict {
    let began = Instant::now();
    let server = Arc::new(Server::new(job.target.as_ref()));
    let outcome = outcome(alone(job.case, &server, limit));
    let took = began.elapsed();
    let (used, left_out) = server.versions();
    let held = matches!(outcome, Outcome::Passed);
    let mut passed_with = if held { used } else { Versions::NONE };
    let mut failed_with = Versions::NONE;
    if matches!(outcome, Outcome::Failed(_)) {
        // The first version that fails keeps the later ones from being tried: so each is tried alone.
        for version in job.target.capabilities().versions.iter() {
            let only = Arc::new(Server::new(job.target.as_ref()).only(version));
            match alone(job.case, &only, limit) {
                Ok(()) => passed_with = passed_with.with(version),
                Err(failure) if failure.skipped().is_some() => {}
                Err(_) => failed_with = failed_with.with(version),
            }
        }
        if failed_with == Versions::NONE {
            failed_with = used;
        }
    }
    Verdict { outcome, took, used, left_out, failed_with, passed_with }
}

/// Runs one case on a thread of its own, so that neither a panic nor an endless wait ends the run.
fn alone(case: Case, server: &Arc<Server>, limit: Duration) -> Step {
    let (tell, told) = mpsc::channel();
    let on = Arc::clone(server);
    thread::spawn(move || {
        let step = catch_unwind(AssertUnwindSafe(|| case.run_on(&on)));
        // Nobody listens any more once the limit has passed.
        let _ = tell.send(step);
    });
    match told.recv_timeout(limit) {
        Ok(Ok(step)) => step,
        Ok(Err(panic)) => Err(Failure::new("an end of the case", panicked(panic.as_ref()))),
        Err(RecvTimeoutError::Timeout) => {
            Err(Failure::new("an end of the case", format!("none within {limit:?}")))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(Failure::new("an end of the case", "the end of its thread"))
        }
    }
}

fn outcome(step: Step) -> Outcome {
    match step {
        Ok(()) => Outcome::Passed,
        Err(failure) => match failure.skipped() {
            Some(reason) => Outcome::Skipped(reason.to_owned()),
            None => Outcome::Failed(failure),
        },
    }
}

fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("without words"))
}
