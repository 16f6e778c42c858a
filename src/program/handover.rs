//! The hand-over: a process that is started with the configuration of a running one takes its listening sockets and its
//! state, and the running one ends.
//!
//! They speak over the Unix socket `handOver` of the configuration. The old process listens there.
//!
//! | step | who | message | then |
//! |---|---|---|---|
//! | 1 | new | hello, with the version of this protocol | the old one looks at the user of the new one |
//! | 2 | old | one socket after the other, and their number; a message of its own says that the file of a Unix socket is a service manager's | the new one binds what is missing |
//! | 3 | new | ready | the old one accepts nobody, and disconnects its Clients |
//! | 4 | old | state, and behind it the bytes | the new one takes them |
//! | 5 | new | taken | the new one accepts |
//! | 6 | old | the end of the connection, once it has freed the address of its admin listener | the new one binds its own, and the old one ends |
//!
//! Until step 3 nothing has happened to the old process. From then on until it has read *taken* it keeps its state, and
//! goes on with it if the new process ends, reports an error, or lets a deadline pass. It closes its end for reading
//! before it does so: a *taken* that the operating system has accepted is read first, and every later one fails. So
//! exactly one of both has the Sessions.

mod giving;
mod taking;
mod wire;

pub(crate) use giving::{Control, Given, give};
pub(crate) use taking::{Taken, begin};
