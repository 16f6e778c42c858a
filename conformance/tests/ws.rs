//! Every case over WebSockets.

hrotti_conformance::tests!(hrotti_conformance::Ws);
