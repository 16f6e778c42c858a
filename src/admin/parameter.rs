//! The parameters that a route reads from its query.

/// A parameter of a query.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: &'static str,
    pub(super) required: bool,
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A Topic Filter.
    Filter,
    /// A whole number.
    Number { minimum: u64, maximum: u64 },
    /// `true` or `false`.
    Flag,
    /// One of these.
    Choice(&'static [&'static str]),
}

impl Parameter {
    pub(super) const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Parameter {
        Parameter { name, kind, meaning, required: false }
    }

    pub(super) const fn required(mut self) -> Parameter {
        self.required = true;
        self
    }
}
