//! The admin listener from outside: over TCP, with an HTTP client of a few lines that can also say what is wrong.

#![cfg(feature = "admin")]

#[path = "admin/bounds.rs"]
mod bounds;
#[path = "admin/cost.rs"]
mod cost;
#[path = "admin/http.rs"]
mod http;
#[path = "admin/routes.rs"]
mod routes;
#[path = "admin/schema.rs"]
mod schema;
#[path = "admin/who.rs"]
mod who;
