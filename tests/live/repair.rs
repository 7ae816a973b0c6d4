//! `evenkeel check` names what is wrong with slots and `evenkeel repair` puts it right: the rows of the repair table,
//! made with real commands, many on one cluster.

mod copies;
mod failover;
mod hidden;
mod made;
mod open;
mod owners;
mod refusals;
