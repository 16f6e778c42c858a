//! TLS as a Client sees it.
