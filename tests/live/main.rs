//! The live tests: the real binary against real Redis and Valkey clusters, under traffic.
//!
//! `tests/servers/fetch` gets the servers. Each story module is one subject, each test one cluster and one story;
//! `support` is what they are told with. A test that fails prints its nodes' logs and `CLUSTER NODES`, and what its
//! daemons wrote and report.

mod at_rest;
mod bad_input;
mod big_keys;
mod daemon;
mod dashboards;
mod demo;
mod documents;
mod durability;
mod failover;
mod failures;
mod finalise;
mod functions;
mod gates;
mod harness;
mod https;
mod interrupted;
mod late;
mod layouts;
mod lease;
mod orders;
mod others;
mod pace;
mod page;
mod pauses;
mod permissions;
mod reasons;
mod rebalance;
mod repair;
mod resume;
mod scouts;
mod secrets;
mod support;
mod systemd;
mod together;
mod told;
mod unheard;
mod walkthrough;
mod woken;
