//! How many slots each shard should hold.
//!
//! Every shard starts with its minimum (pinned slots are part of it). The slots that are left are given out one by one,
//! each to the shard that is furthest below its weight: the one with the largest weight / (2·slots + 1), among those
//! below their maximum. This is the divisor method of Webster and Sainte-Laguë, and it does in one rule what would
//! otherwise be three:
//!
//! - **Rounding.** With equal weights every shard gets its share rounded down or up. With unequal ones a shard is within
//!   half a slot of its weight times one common factor, and so within (1 + r)/2 slots of its proportional share, where r
//!   is its weight over the average weight.
//! - **Pinned slots, minimum, maximum.** A shard whose pinned slots exceed its share keeps them and gets no more, one at
//!   its maximum stops, and the others divide the rest by weight (water-filling).
//! - **No slot moves between old nodes** when one joins or is drained: what a shard gets depends on the order in which
//!   the slots are given out, and one more shard changes how far that goes, not the order. Largest remainders do not
//!   have this property: a new shard can hand an old one a slot of another's (the "new states paradox").
//!
//! Between equals the shard goes first that holds such a slot already, so that a cluster which is level stays as it is;
//! then the least key.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::bind::Demand;

/// How many slots each shard should hold: within its bounds, `available` in sum. `held` is what each has now.
///
/// The bounds leave room for `available` slots ([`super::bind::demands`] has seen to it).
pub(super) fn targets(demands: &[Demand], held: &[u32], available: u32) -> Vec<u32> {
    let mut targets: Vec<u32> = demands.iter().map(|demand| demand.min).collect();
    let claim = |at: usize, target: u32| {
        let demand = &demands[at];
        (target < demand.max).then(|| Claim {
            weight: demand.weight.0,
            divisor: u64::from(target) * 2 + 1,
            held: target < held[at],
            shard: at,
        })
    };
    let mut claims: BinaryHeap<Claim> = targets.iter().enumerate().filter_map(|(at, &min)| claim(at, min)).collect();
    let given: u32 = targets.iter().sum();
    for _ in given..available {
        let Some(Claim { shard, .. }) = claims.pop() else { break };
        targets[shard] += 1;
        claims.extend(claim(shard, targets[shard]));
    }
    assert_eq!(targets.iter().sum::<u32>(), available, "the targets share out exactly the slots that there are");
    targets
}

/// A shard's claim to one more slot. The greater goes first.
struct Claim {
    weight: u64,
    /// Twice the slots that the shard was given so far, and one: an odd number up to 32,767.
    divisor: u64,
    /// The shard holds more than it was given so far.
    held: bool,
    shard: usize,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        // weight/divisor without dividing: at most 10^12 times 32,767, well within 64 bits.
        (self.weight * other.divisor)
            .cmp(&(other.weight * self.divisor))
            .then(self.held.cmp(&other.held))
            .then(other.shard.cmp(&self.shard))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Claim {}
