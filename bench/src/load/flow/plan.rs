//! Who publishes what to whom.

use std::ops::Range;

/// Copies of each message in a mesh: two of each wildcard.
pub(super) const MESH_COPIES: u32 = 4;

/// Who publishes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each publisher has its own topic and subscriber.
    Pairs,
    /// One publisher, all others subscribe.
    FanOut,
    /// One subscriber with a wildcard, all others publish.
    FanIn,
    /// Publisher `i` goes round the topics `mesh/i/j`. Each filter `mesh/+/j` and `mesh/i/#` has
    /// two subscribers, so that each message goes to four through two different wildcards.
    Mesh,
}

/// A shape with numbers.
#[derive(Debug)]
pub(super) struct Plan {
    /// The topics of each publisher; all have as many.
    pub(super) publishers: Vec<Vec<String>>,
    pub(super) subscribers: Vec<Listener>,
}

/// A subscriber in a [`Plan`].
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) filter: String,
    pub(super) hears: Hears,
}

/// What a subscriber hears: these topics of these publishers. Each topic of each publisher is a
/// stream of its own, since MQTT promises the order of messages within a topic.
#[derive(Debug, Clone)]
pub(super) struct Hears {
    pub(super) publishers: Range<usize>,
    pub(super) topics: Range<usize>,
}

impl Hears {
    /// Which of the streams it is, if it hears it at all.
    #[inline]
    pub(super) fn stream(&self, publisher: usize, topic: usize) -> Option<usize> {
        if !self.publishers.contains(&publisher) || !self.topics.contains(&topic) {
            return None;
        }
        let (row, column) = (publisher - self.publishers.start, topic - self.topics.start);
        Some(row * self.topics.len() + column)
    }

    /// All streams as publisher and topic, in the order of [`Hears::stream`].
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let topics = || self.topics.clone();
        self.publishers.clone().flat_map(move |publisher| topics().map(move |t| (publisher, t)))
    }
}

impl Plan {
    /// `many` is the number of pairs, of clients on the side that has many, or of publishers in a
    /// mesh.
    pub(super) fn new(shape: Shape, many: usize) -> Self {
        let single = |count: usize| (0..count).map(|index| vec![topic(index)]).collect();
        let listener = |filter, publishers, topics| {
            let hears = Hears { publishers, topics };
            Listener { filter, hears }
        };
        match shape {
            Shape::Pairs => Self {
                publishers: single(many),
                subscribers: (0..many).map(|at| listener(topic(at), at..at + 1, 0..1)).collect(),
            },
            Shape::FanOut => Self {
                publishers: single(1),
                subscribers: (0..many).map(|_| listener(topic(0), 0..1, 0..1)).collect(),
            },
            Shape::FanIn => Self {
                publishers: single(many),
                subscribers: vec![listener("bench/+".to_owned(), 0..many, 0..1)],
            },
            Shape::Mesh => {
                let topics = |from| (0..many).map(|to| format!("mesh/{from:03}/{to:03}")).collect();
                let columns =
                    (0..many).map(|to| listener(format!("mesh/+/{to:03}"), 0..many, to..to + 1));
                let rows = (0..many)
                    .map(|from| listener(format!("mesh/{from:03}/#"), from..from + 1, 0..many));
                let all = columns.chain(rows).flat_map(|one| [one.clone(), one]);
                Self { publishers: (0..many).map(topics).collect(), subscribers: all.collect() }
            }
        }
    }
}

/// All topics have the same length, so that all messages cost the same.
fn topic(index: usize) -> String {
    format!("bench/{index:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_heard_by_as_many_as_the_shape_says() {
        for (shape, copies) in [
            (Shape::Pairs, 1),
            (Shape::FanOut, 5),
            (Shape::FanIn, 1),
            (Shape::Mesh, usize::try_from(MESH_COPIES).unwrap()),
        ] {
            let plan = Plan::new(shape, 5);
            for (publisher, topics) in plan.publishers.iter().enumerate() {
                for (topic, name) in topics.iter().enumerate() {
                    let hear = |one: &&Listener| one.hears.stream(publisher, topic).is_some();
                    let heard: Vec<_> = plan.subscribers.iter().filter(hear).collect();
                    assert_eq!(heard.len(), copies, "{shape:?} {name}");
                    assert_eq!(name.len(), topics[0].len());
                }
            }
            for subscriber in &plan.subscribers {
                let streams = subscriber.hears.streams();
                for (at, (publisher, topic)) in streams.enumerate() {
                    assert_eq!(subscriber.hears.stream(publisher, topic), Some(at));
                }
            }
        }
    }

    #[test]
    fn a_mesh_has_rows_and_columns() {
        let plan = Plan::new(Shape::Mesh, 2);
        let filters: Vec<_> = plan.subscribers.iter().map(|one| one.filter.as_str()).collect();
        let wanted = ["mesh/+/000", "mesh/+/001", "mesh/000/#", "mesh/001/#"];
        assert_eq!(filters, wanted.map(|filter| [filter; 2]).concat());
        assert_eq!(plan.publishers[1], ["mesh/001/000", "mesh/001/001"]);
    }
}
