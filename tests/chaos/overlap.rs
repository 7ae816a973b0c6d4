//! One finalise at a time in the whole cluster, seen from the servers.

use evenkeel::daemon::{Moment, Phase, Point};

use crate::arena::{Arena, SETTLED_WITHIN};
use crate::kills::order;
use crate::support::{Flavour, SOON, eventually};

/// Looks at the servers while a finalise stands still: what could be done beside it takes a hundredth of the time.
const LOOKS: usize = 50;

/// A daemon stands still between the two halves of a finalise while another pair has everything ready for its own.
fn check_one_finalise_at_a_time(flavour: Flavour) {
    let mut arena = Arena::start(flavour);
    arena.give_to_the_last();
    let half_done = Point { phase: Phase::AssignTarget, moment: Moment::After };
    let mut daemon = arena.daemon(&order(half_done, "pause", 1));
    assert!(arena.await_pause(&daemon, &half_done.to_string()), "the point is passed");

    let cluster = &arena.cluster;
    let [first, second, _] = arena.shards[..] else { panic!("three shards") };
    let open_at = |node| -> Result<Vec<String>, String> {
        let marks = cluster.view(node)?.open();
        Ok(marks
            .iter()
            .filter_map(|mark| mark.trim_matches(['[', ']']).split_once("->-"))
            .map(|(s, _)| s.to_owned())
            .collect())
    };
    eventually("both sources have slots open, and no key in them", SETTLED_WITHIN, || {
        for node in [first, second] {
            let open = open_at(node)?;
            let keys: usize =
                open.iter().map(|slot| cluster.cmd::<usize>(node, &["CLUSTER", "COUNTKEYSINSLOT", slot])).sum();
            if open.is_empty() || keys > 0 {
                return Err(format!("{} has {open:?} open, and {keys} keys in them", cluster.name(node)));
            }
        }
        Ok(())
    });
    let owners = eventually("all have heard of the one finalise", SOON, || cluster.agreed_owners());
    for _ in 0..LOOKS {
        assert_eq!(cluster.agreed_owners().as_ref(), Ok(&owners), "nobody else is given a slot meanwhile");
    }
    arena.release(&half_done.to_string());
    arena.settle(&mut daemon, std::time::Instant::now()).expect("the daemon goes on");
    let seen = arena.clients.sweep();
    assert!(seen.errors.is_empty() && seen.lost.is_empty() && seen.missed.is_empty(), "{seen:?}");
}

#[test]
fn while_one_finalise_is_half_done_no_other_begins_on_redis_7_0() {
    check_one_finalise_at_a_time(Flavour::Redis70);
}
