//! The state machine of one move against a model of two primaries and their clients.
//!
//! [`model`] is the servers, [`driver`] carries steps out against it and holds what must always be true; [`stories`]
//! read as runs of one move each, [`properties`] let chance choose the faults.

mod driver;
mod model;
mod properties;
mod stories;
