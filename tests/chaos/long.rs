//! As many strikes as one likes, and a table of what became of them.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::str::FromStr;

use crate::arena::Arena;
use crate::kills::Kill;
use crate::outcome::{Outcome, Tally};
use crate::support::Flavour;

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

#[test]
#[ignore = "takes as long as it is told to: see docs/chaos.md"]
fn long_form_kills_of_the_daemon() {
    let (first, count) = (setting("EVENKEEL_CHAOS_SEED", 0), setting("EVENKEEL_CHAOS_STRIKES", 72));
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut faulty: Vec<Outcome> = Vec::new();
    for flavour in flavours() {
        let mut arena = Arena::start(flavour);
        for seed in first..first + count {
            let kill = Kill::of(seed);
            let outcome = kill.strike(&mut arena);
            eprintln!("{} {outcome}", flavour.name());
            tallies.entry(format!("{}, journal {}", flavour.name(), kill.journal)).or_default().add(&outcome);
            if !outcome.faults().is_empty() {
                eprintln!("{:#?}\n{}", outcome.faults(), outcome.log);
                // What one strike left must not be counted as the next one's.
                let settled = outcome.settled.is_ok();
                faulty.push(outcome);
                if !settled {
                    drop(arena);
                    arena = Arena::start(flavour);
                }
            }
        }
    }
    print(&tallies);
    assert!(faulty.is_empty(), "{} strikes with faults", faulty.len());
}

fn print(tallies: &BTreeMap<String, Tally>) {
    let (head, rule) = Tally::HEAD.split_once('\n').expect("two lines");
    println!("| servers {head}\n|---{rule}");
    for (name, tally) in tallies {
        println!("| {name} {tally}");
    }
}
