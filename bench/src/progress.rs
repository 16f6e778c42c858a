//! How far a comparison is, and how long it will still take.

use std::fmt;
use std::time::{Duration, Instant};

use crate::compare::Turn;

/// Runs that are done and runs that are left. What is left is expected to take as long as the same
/// scenario took with the same broker, or on average if that did not run yet.
#[derive(Debug)]
pub(crate) struct Progress {
    turns: Vec<Turn>,
    done: Vec<(Turn, Duration)>,
    begin: Instant,
}

impl Progress {
    pub(crate) fn new(turns: &[Turn]) -> Self {
        Self { turns: turns.to_vec(), done: Vec::new(), begin: Instant::now() }
    }

    /// The next run is done.
    pub(crate) fn took(&mut self, turn: Turn, time: Duration) {
        self.done.push((turn, time));
    }

    fn remaining(&self) -> Option<Duration> {
        let count = u32::try_from(self.done.len()).ok().filter(|&count| count > 0)?;
        let average = self.done.iter().map(|(_, time)| *time).sum::<Duration>() / count;
        let expected = |turn: &Turn| {
            let same = |done: &&(Turn, Duration)| {
                (done.0.scenario, done.0.broker) == (turn.scenario, turn.broker)
            };
            self.done.iter().rev().find(same).map_or(average, |(_, time)| *time)
        };
        Some(self.turns[self.done.len()..].iter().map(expected).sum())
    }
}

/// The run that begins now, of how many, with the times so far and to come.
impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, all) = (self.done.len() + 1, self.turns.len());
        write!(formatter, "run {now:>3}/{all}  {}", in_words(self.begin.elapsed()))?;
        match self.remaining() {
            Some(left) => write!(formatter, ", {} left", in_words(left)),
            None => Ok(()),
        }
    }
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{:02}s", seconds % 60),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_it_took_before() {
        let turn = |round, broker| Turn { round, scenario: 0, broker };
        let turns = [turn(0, 0), turn(0, 1), turn(1, 1), turn(1, 0)];
        let mut progress = Progress::new(&turns);
        assert_eq!(progress.remaining(), None);
        assert_eq!(progress.to_string(), "run   1/4  0s");
        progress.took(turns[0], Duration::from_secs(100));
        // Nothing is known of the other broker: as long as the first, both times.
        assert_eq!(progress.remaining(), Some(Duration::from_secs(300)));
        progress.took(turns[1], Duration::from_secs(4));
        assert_eq!(progress.remaining(), Some(Duration::from_secs(104)));
        assert_eq!(progress.to_string(), "run   3/4  0s, 1m44s left");
    }

    #[test]
    fn times_are_short() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!([words(9), words(65), words(3_720)], ["9s", "1m05s", "1h02m"]);
    }
}
