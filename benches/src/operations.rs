//! What is measured: each operation is made, checked, and can then be repeated as often as one likes.

use std::fmt;

mod codec;
mod events;
mod fanout;
mod packets;
mod pairs;
mod queue;
mod retain;
mod tree;

/// How large the things are that operations work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As published.
    Full,
    /// For a test, which is to know that all operations work.
    Small,
}

impl Scale {
    /// Of these sizes all, or the smallest alone.
    fn sizes(self, sizes: &[usize]) -> Vec<usize> {
        match self {
            Scale::Full => sizes.to_vec(),
            Scale::Small => sizes.iter().copied().min().into_iter().collect(),
        }
    }
}

/// Does it once and returns what came of it, as a number.
pub type Run = Box<dyn FnMut() -> usize>;

/// Something to measure.
pub struct Operation {
    group: &'static str,
    name: String,
    elements: u64,
    expected: usize,
    make: Box<dyn Fn() -> Run>,
}

impl Operation {
    /// `make` prepares what a run needs. A run handles `elements` packets, messages or filters, returns
    /// `expected`, and leaves all as it was before.
    fn new<R: FnMut() -> usize + 'static>(
        group: &'static str,
        name: impl Into<String>,
        elements: u64,
        expected: usize,
        make: impl Fn() -> R + 'static,
    ) -> Operation {
        let make: Box<dyn Fn() -> Run> = Box::new(move || Box::new(make()));
        Operation { group, name: name.into(), elements, expected, make }
    }

    /// The group it belongs to.
    pub fn group(&self) -> &'static str {
        self.group
    }

    /// Its name in the group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many packets, messages or filters one run handles.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Prepares it, and makes sure that it does what is to be measured: not once only, but again.
    ///
    /// # Panics
    /// It does not.
    pub fn start(&self) -> Run {
        let mut run = (self.make)();
        for _ in 0..2 {
            assert_eq!(run(), self.expected, "{}/{}", self.group, self.name);
        }
        run
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.name)
    }
}

/// A subscription tree of so many filters, to be weighed: `exact`, `last`, `plus`,
/// `multi` or `deep`.
///
/// # Panics
/// If there is no such kind.
pub fn weigh_tree(kind: &str, size: usize) -> Box<dyn std::any::Any> {
    tree::weigh(kind, size)
}

/// All operations, group by group. Nothing is prepared yet.
pub fn all(scale: Scale) -> Vec<Operation> {
    let groups = [
        codec::operations(),
        tree::operations(scale),
        queue::operations(),
        retain::operations(scale),
        fanout::operations(),
        pairs::operations(),
        events::operations(),
    ];
    groups.into_iter().flatten().collect()
}
