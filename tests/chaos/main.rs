//! The chaos tests: daemons, servers and links are struck in the middle of moves, under clients that verify.
//!
//! Every strike follows from a seed, which is printed. `docs/chaos.md` says what is struck, and how to run many.

mod arena;
mod blame;
mod clients;
mod dice;
mod kills;
mod long;
mod monitor;
mod outcome;
mod overlap;
mod strikes;
#[path = "../live/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stories of the live tests need more of it")]
mod support;
mod wires;
mod witness;

use evenkeel::daemon::Point;

use arena::Arena;
use blame::Histories;
use kills::Kill;
use strikes::{Blow, Strike, Timing};
use support::Flavour;

/// Kills daemons, once for each seed. Panics at the first fault.
fn check_kills(flavour: Flavour, seeds: impl Iterator<Item = u64>) {
    let mut arena = Arena::start(flavour);
    for seed in seeds {
        let kill = Kill::of(seed);
        let outcome = kill.strike(&mut arena);
        eprintln!("{outcome}");
        assert_eq!(outcome.faults(), Vec::<String>::new(), "{outcome}\n{}", outcome.log);
    }
}

#[test]
fn a_daemon_that_is_killed_at_any_named_point_is_succeeded_by_one_that_finishes_on_redis_7_0() {
    check_kills(Flavour::Redis70, (0..).take(Point::all().count()));
}

#[test]
fn a_daemon_that_is_killed_at_any_third_point_is_succeeded_by_one_that_finishes_on_valkey_9_1() {
    check_kills(Flavour::Valkey91, (0..).step_by(3).take(Point::all().count() / 3));
}

/// Strikes servers, once for each seed. Panics at the first fault.
fn check_strikes(mut arena: Arena, blows: &[Blow], seeds: impl Iterator<Item = u64>) {
    let mut histories = Histories::default();
    for seed in seeds {
        let strike = Strike::of(seed, blows);
        arena.await_replicas();
        let outcome = strike.strike(&mut arena, &mut histories);
        eprintln!("{outcome}");
        let faults = outcome.server_faults(strike.timing == Timing::Quiesced);
        assert_eq!(faults, Vec::<String>::new(), "{outcome}\n{}", outcome.log);
    }
}

#[test]
fn other_hands_and_short_freezes_lose_nothing_on_redis_7_0() {
    check_strikes(Arena::start(Flavour::Redis70), &Blow::OTHERS, 0..6);
}

#[test]
fn whatever_server_is_struck_the_cluster_settles_and_each_loss_is_accounted_for_on_valkey_9_1() {
    check_strikes(Arena::start(Flavour::Valkey91), &Blow::AT_SERVERS, (1..=36).step_by(5));
}

#[test]
fn whatever_server_is_struck_the_cluster_settles_and_each_loss_is_accounted_for_on_redis_7_0() {
    check_strikes(Arena::start(Flavour::Redis70), &Blow::AT_SERVERS, (0..=36).step_by(5));
}

#[test]
fn links_that_are_cut_and_mended_lose_nothing_on_redis_7_0() {
    check_strikes(Arena::start_with_wires(Flavour::Redis70), &Blow::AT_LINKS, 3..9);
}
