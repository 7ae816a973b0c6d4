//! What is to be done about a slot that somebody left in disorder: the repair table, as one function.
//!
//! [`recover`] looks at everything that is known of one slot and says what to do, by which row and why. It asks nobody
//! and does nothing. The rows are those of the repair table of Redis Cluster's slot states, by owner, marks and keys;
//! `docs/operating.md` has them for operators.

mod facts;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod verdict;

pub use facts::{SlotFacts, Voice, Witnesses};
pub use verdict::{Order, Verdict};

use super::Pair;
use crate::cluster::NodeId;

/// What is to be done about this slot.
#[must_use]
pub fn recover(facts: &SlotFacts) -> Verdict {
    if facts.job {
        return Verdict::Wait { row: 21, why: "a migration inside the servers has it; SETSLOT must not touch it" };
    }
    let claimants = facts.claimants();
    if !facts.silent.is_empty() {
        return unreachable(facts);
    }
    match claimants[..] {
        [] if facts.primaries.values().all(|voice| voice.owner.is_none()) => nobody_has_it(facts),
        [] => nobody_claims_it(facts),
        [owner] => owned(facts, owner),
        _ => two_claim_it(facts, &claimants),
    }
}

fn unreachable(facts: &SlotFacts) -> Verdict {
    let named = facts.primaries.values().filter_map(|voice| voice.owner);
    if named.clone().next().is_some() && named.clone().all(|owner| facts.lost.contains(&owner)) {
        let why = "its owner has failed and has no replica: whoever else took it would abandon its keys";
        return Verdict::Human { row: 20, why };
    }
    Verdict::CannotTell { silent: facts.silent.iter().copied().collect() }
}

/// Rows 15 to 17: all say that it belongs to nobody.
fn nobody_has_it(facts: &SlotFacts) -> Verdict {
    let holders = facts.primaries.iter().filter(|(_, voice)| voice.keys > 0);
    // Most keys first; of equals the lowest id.
    let most = holders.clone().max_by_key(|(node, voice)| (voice.keys, std::cmp::Reverse(**node)));
    let Some((&owner, _)) = most else {
        let Some(at) = facts.heir else {
            return Verdict::Human { row: 15, why: "nobody owns it, and there is no primary to give it to" };
        };
        let why = "nobody owns it and nobody holds a key of it";
        return Verdict::Settle { row: 15, orders: vec![Order::AddSlot { at }], why };
    };
    let orders = vec![Order::AddSlot { at: owner }];
    let holders = facts.holders_but(owner);
    if holders.is_empty() {
        return Verdict::Settle { row: 16, orders, why: "nobody owns it, and one primary holds all its keys" };
    }
    let giving: Vec<NodeId> =
        facts.primaries.iter().filter(|(_, v)| v.migrating.is_some()).map(|(&at, _)| at).collect();
    match giving[..] {
        [] => {}
        // One that gives a slot away sends clients on for every key that it does not have: no key comes home to it.
        [at] => {
            let why = "nobody owns it, and it was half moved: its former owner gets it back, and it goes on";
            return Verdict::Settle { row: 17, orders: vec![Order::AddSlot { at }], why };
        }
        _ => return Verdict::Human { row: 17, why: "nobody owns it, and several were giving it away" },
    }
    let why = "nobody owns it, and several primaries hold keys of it: the one with the most gets it";
    Verdict::Gather { row: 17, first: orders, owner, holders, ask_first: false, why }
}

/// Rows 9 to 11: some name an owner, and no primary claims it. Clients are sent in circles.
fn nobody_claims_it(facts: &SlotFacts) -> Verdict {
    let named_by_others =
        |node: NodeId| facts.primaries.iter().filter(|(at, voice)| **at != node && voice.owner == Some(node)).count();
    let named = facts.primaries.keys().copied().filter(|&node| named_by_others(node) > 0);
    let Some(source) = named.max_by_key(|&node| (named_by_others(node), std::cmp::Reverse(node))) else {
        return Verdict::Human { row: 10, why: "the owner that is named is no primary, and no primary claims it" };
    };
    let given_to = facts.primaries[&source].owner.and_then(|node| facts.meant_by(node));
    let mut holders: Vec<NodeId> = facts.holders_but(source);
    if facts.primaries[&source].keys > 0 {
        holders.push(source);
    }
    let heir = match holders[..] {
        [] => given_to.unwrap_or(source),
        [holder] if holder == source || Some(holder) == given_to => holder,
        _ => return Verdict::Human { row: 10, why: "nobody claims it, and more than one node may have its keys" },
    };
    let others = facts.primaries.keys().copied();
    let other = if heir == source { given_to } else { Some(source) };
    let Some(from) = other.or_else(|| others.into_iter().find(|&node| node != heir)) else {
        return Verdict::Human { row: 11, why: "nobody claims it, and there is only one primary" };
    };
    // Without the mark the claim would get no new epoch, and might lose against an old one.
    let orders = vec![Order::Importing { at: heir, from }, Order::Node { at: heir, owner: heir }];
    let marked = facts.primaries[&heir].importing == Some(source);
    let (row, why) = match (holders.is_empty(), marked) {
        (_, true) => (9, "its source gave it up before its target took it: clients are sent in circles"),
        (false, false) => (10, "nobody claims it and clients are sent in circles; its keys are with one node"),
        (true, false) => (11, "nobody claims it and clients are sent in circles; nobody holds a key of it"),
    };
    Verdict::Settle { row, orders, why }
}

/// Row 18.
fn two_claim_it(facts: &SlotFacts, claimants: &[NodeId]) -> Verdict {
    let latest = claimants.iter().copied().max_by_key(|node| (facts.primaries[node].epoch, std::cmp::Reverse(*node)));
    let Some(winner) = latest else { return Verdict::Sound };
    let losers = claimants.iter().copied().filter(|&node| node != winner);
    if losers.clone().any(|node| facts.primaries[&node].keys > 0) {
        let why = "several claim it, and those whose claim is older hold keys, which they delete when they hear of the newer claim";
        return Verdict::Human { row: 18, why };
    }
    let orders = losers.map(|at| Order::Node { at, owner: winner }).collect();
    Verdict::Settle { row: 18, orders, why: "several claim it; the latest claim wins, and the others hold no key" }
}

/// One primary claims it.
fn owned(facts: &SlotFacts, owner: NodeId) -> Verdict {
    // A Redis node that imports does not follow a change of the owner by itself (row 7); any other one would.
    let others = || facts.primaries.iter().filter(|(node, _)| **node != owner);
    let wrong: Vec<Order> = others()
        .filter(|(_, voice)| voice.owner != Some(owner) && voice.importing.is_none())
        .map(|(&at, _)| Order::Node { at, owner })
        .collect();
    if !wrong.is_empty() {
        return Verdict::Settle {
            row: 19,
            orders: wrong,
            why: "these do not know its owner: clients take a way round",
        };
    }
    let stale: Vec<Order> = others()
        .filter(|(_, voice)| voice.migrating.is_some() && voice.keys == 0)
        .map(|(&at, _)| Order::Node { at, owner })
        .collect();
    if !stale.is_empty() {
        let why = "the move is done; its former owner still has its mark";
        return Verdict::Settle { row: 8, orders: stale, why };
    }
    let importers: Vec<NodeId> = others().filter(|(_, voice)| voice.importing.is_some()).map(|(&at, _)| at).collect();
    match facts.primaries[&owner].migrating {
        Some(named) => given_away(facts, owner, named, &importers),
        None if !importers.is_empty() => taken_in(facts, owner, &importers),
        None => closed(facts, owner),
    }
}

/// Its owner has the mark `migrating`: rows 1, 3, 4, 13, 14, and 7 where the marks do not fit.
fn given_away(facts: &SlotFacts, owner: NodeId, named: NodeId, importers: &[NodeId]) -> Verdict {
    let holders = facts.holders_but(owner);
    let meant = facts.meant_by(named).filter(|&node| node != owner);
    let target = match (meant, &holders[..]) {
        (Some(target), []) => target,
        (Some(target), [holder]) if *holder == target => target,
        (None, [holder]) => *holder,
        (None, []) => {
            let mut orders: Vec<Order> = importers.iter().flat_map(|&at| close(facts, owner, at)).collect();
            orders.push(Order::Stable { at: owner });
            let why = "it was to go to a node that is not there any more, and nobody else holds a key of it";
            return Verdict::Settle { row: 14, orders, why };
        }
        (Some(_) | None, _) => return too_many_hold_keys(),
    };
    let mut first: Vec<Order> =
        importers.iter().filter(|&&at| at != target).flat_map(|&at| close(facts, owner, at)).collect();
    let extra = !first.is_empty();
    let voice = &facts.primaries[&target];
    if voice.importing.is_none() && voice.keys == 0 {
        // The target first would be as good; but nothing has begun, and no key can have come to it without its mark.
        first.push(Order::Stable { at: owner });
        return Verdict::Settle { row: 3, orders: first, why: "only its owner has a mark, and no key has moved" };
    }
    first.extend(tell(facts, owner, target));
    let repointed = named != target || voice.importing.is_some_and(|from| from != owner);
    if repointed {
        first.push(Order::Importing { at: target, from: owner });
        first.push(Order::Migrating { at: owner, to: target });
    }
    let (row, why) = match (extra, repointed, voice.importing) {
        (true, ..) => {
            (13, "several take it in; those without a key are closed, and it goes on to the one its owner names")
        }
        (false, true, Some(_)) => (7, "its marks name a node that has been replaced"),
        (false, true, None) if meant.is_none() => {
            (14, "it was to go to a node that is not there any more; its keys are here")
        }
        (false, _, None) => (4, "its target has lost its mark and holds keys: they cannot be reached"),
        (false, false, Some(_)) => (1, "it is half moved; there is no way back that hides no key from clients"),
    };
    Verdict::GoForward { row, first, pair: Pair { source: owner, target }, why }
}

/// Its owner has no mark, and some node takes it in: rows 5, 6, 7 and 13.
fn taken_in(facts: &SlotFacts, owner: NodeId, importers: &[NodeId]) -> Verdict {
    let with_keys: Vec<NodeId> = importers.iter().copied().filter(|node| facts.primaries[node].keys > 0).collect();
    let named_other = |node: &NodeId| facts.primaries[node].importing != Some(owner);
    let target = match with_keys[..] {
        [] => {
            let orders = importers.iter().flat_map(|&at| close(facts, owner, at)).collect();
            let (row, why) = match importers {
                [one] if named_other(one) => {
                    (7, "it was taken from a node that has been replaced, and no key has moved")
                }
                [_] => (5, "only its target has a mark, and no key has moved"),
                _ => (13, "several take it in, and no key has moved"),
            };
            return Verdict::Settle { row, orders, why };
        }
        [target] if facts.holders_but(owner) == [target] => target,
        _ => return too_many_hold_keys(),
    };
    let mut first: Vec<Order> =
        importers.iter().filter(|&&at| at != target).flat_map(|&at| close(facts, owner, at)).collect();
    first.extend(tell(facts, owner, target));
    let pair = Pair { source: owner, target };
    if named_other(&target) {
        first.push(Order::Importing { at: target, from: owner });
        let why = "its source was replaced in mid-move: the keys at the target cannot be reached";
        return Verdict::GoForward { row: 7, first, pair, why };
    }
    let row = if importers.len() > 1 { 13 } else { 6 };
    Verdict::GoForward {
        row,
        first,
        pair,
        why: "its owner has lost its mark: the keys at the target cannot be reached",
    }
}

/// No mark of a move: row 12, and marks that mean nothing.
fn closed(facts: &SlotFacts, owner: NodeId) -> Verdict {
    let holders = facts.holders_but(owner);
    if !holders.is_empty() {
        let why = "keys lie at a node that neither owns nor takes it in: the only copies, or old ones that were deleted since";
        return Verdict::Gather { row: 12, first: Vec::new(), owner, holders, ask_first: true, why };
    }
    if facts.primaries[&owner].importing.is_some() {
        let orders = vec![Order::Stable { at: owner }];
        return Verdict::Settle { row: 8, orders, why: "its owner still has the mark of taking it in" };
    }
    // What a primary is told of a slot its replicas are told too.
    let stale: Vec<Order> = facts.stale_replicas.iter().map(|&at| Order::Stable { at }).collect();
    if !stale.is_empty() {
        return Verdict::Settle { row: 8, orders: stale, why: "a replica has a mark that its primary does not have" };
    }
    Verdict::Sound
}

fn too_many_hold_keys() -> Verdict {
    Verdict::Human { row: 13, why: "its keys are at more nodes than a move has ends" }
}

/// Takes the mark from a node that takes the slot in and holds no key of it.
fn close(facts: &SlotFacts, owner: NodeId, at: NodeId) -> Vec<Order> {
    let mut orders = tell(facts, owner, at);
    orders.push(Order::Stable { at });
    orders
}

/// Tells a node who owns the slot, if it thinks otherwise: one that imports does not find out by itself.
fn tell(facts: &SlotFacts, owner: NodeId, at: NodeId) -> Vec<Order> {
    if facts.primaries[&at].owner == Some(owner) { Vec::new() } else { vec![Order::Node { at, owner }] }
}
