//! Every case over TCP.

hrotti_conformance::tests!(hrotti_conformance::Tcp);
