//! As many strikes as one likes, and a table of what became of them.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::str::FromStr;

use crate::arena::Arena;
use crate::blame::Histories;
use crate::kills::Kill;
use crate::outcome::{Outcome, Tally};
use crate::strikes::{Blow, Strike, Timing};
use crate::support::Flavour;

/// Of each server's log, what is shown where a strike had a fault.
const LOG_LINES: usize = 100;

const FLAVOURS: [Flavour; 5] =
    [Flavour::Redis62, Flavour::Redis70, Flavour::Redis82, Flavour::Valkey81, Flavour::Valkey91];

/// What an environment variable says, or this.
fn setting<T: FromStr<Err: Debug>>(name: &str, or: T) -> T {
    env::var(name).map_or(or, |text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error:?}")))
}

/// The kinds of server that are asked for.
fn flavours() -> Vec<Flavour> {
    let names = setting("EVENKEEL_CHAOS_SERVERS", "redis-7.0,valkey-9.1".to_owned());
    let of_name = |name: &str| FLAVOURS.into_iter().find(|flavour| flavour.name() == name);
    names.split(',').map(|name| of_name(name).unwrap_or_else(|| panic!("no server {name}"))).collect()
}

/// Strikes each kind of server, once for each seed that is asked for, and prints what became of it.
///
/// `strike` gives the name of the row that the outcome belongs to, the outcome, and what must not be of it.
fn many(
    head: &str,
    start: impl Fn(Flavour) -> Arena,
    mut strike: impl FnMut(u64, &mut Arena) -> (String, Outcome, Vec<String>),
) {
    let (first, count) = (setting("EVENKEEL_CHAOS_SEED", 0), setting("EVENKEEL_CHAOS_STRIKES", 72));
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut faulty = 0;
    for flavour in flavours() {
        let mut arena = start(flavour);
        for seed in first..first + count {
            let (row, outcome, faults) = strike(seed, &mut arena);
            eprintln!("{} {outcome}", flavour.name());
            tallies.entry(format!("{} | {row}", flavour.name())).or_default().add(&outcome);
            if !faults.is_empty() || outcome.undecided.is_some() || outcome.is_lossy() {
                eprintln!("{faults:#?}\n{}\n{}", outcome.log, arena.cluster.logs(LOG_LINES));
            }
            faulty += usize::from(!faults.is_empty());
            if outcome.is_unfinished() {
                // What one strike left must not be counted as the next one's.
                drop(arena);
                arena = start(flavour);
            }
        }
    }
    println!("| servers | {head} | {}", Tally::HEAD.replace('\n', "\n|---|---|"));
    for (row, tally) in &tallies {
        println!("| {row} | {tally}");
    }
    assert_eq!(faulty, 0, "strikes with faults");
}

#[test]
#[ignore = "takes as long as it is told to: see docs/chaos.md"]
fn long_form_kills_of_the_daemon() {
    many("journal", Arena::start, |seed, arena| {
        let kill = Kill::of(seed);
        let outcome = kill.strike(arena);
        let faults = outcome.faults();
        (kill.journal.to_string(), outcome, faults)
    });
}

#[test]
#[ignore = "takes as long as it is told to: see docs/chaos.md"]
fn long_form_strikes_at_servers() {
    strikes(&Blow::AT_SERVERS, Arena::start);
}

#[test]
#[ignore = "takes as long as it is told to: see docs/chaos.md"]
fn long_form_other_hands() {
    strikes(&Blow::OTHERS, Arena::start);
}

#[test]
#[ignore = "takes as long as it is told to: see docs/chaos.md"]
fn long_form_cut_links() {
    strikes(&Blow::AT_LINKS, Arena::start_with_wires);
}

fn strikes(blows: &[Blow], start: impl Fn(Flavour) -> Arena) {
    let mut histories = Histories::default();
    many("strike", start, |seed, arena| {
        let strike = Strike::of(seed, blows);
        arena.await_replicas();
        let outcome = strike.strike(arena, &mut histories);
        let faults = outcome.server_faults(strike.timing == Timing::Quiesced);
        (format!("{:?}, {:?}", strike.blow, strike.timing), outcome, faults)
    });
}
