//! The one finalise of the cluster: who holds it, and who waits for it.
//!
//! Two finalises in flight that share a node lose every key of a slot whenever their epochs fall the wrong way. So there
//! is one, and it is state: nothing that a failing task drops gives it back by accident.

use std::collections::VecDeque;

use super::MoveId;
use crate::cluster::NodeId;
use crate::migration::Pair;

/// The lock and its queue. `G` is how a permission is handed over.
#[derive(Debug)]
pub(super) struct Finalise<G> {
    held: Option<Held>,
    waiting: VecDeque<Waiting<G>>,
}

#[derive(Debug)]
struct Waiting<G> {
    id: MoveId,
    pair: Pair,
    /// It finishes slots that were found open, and so may inherit; a move of other slots of the pair may not.
    finishes: bool,
    grant: G,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    id: MoveId,
    pair: Pair,
    /// Its worker died: it is inherited by whoever finishes the same pair's open slots, and by nobody else.
    orphaned: bool,
    /// It was inherited.
    inherited: bool,
    /// A target that may not have heard yet what it was told, and that a failover has replaced since. A frozen process
    /// carries it out when it wakes: a second finalise of the same slots, if its heir had begun one meanwhile.
    unheard: Option<NodeId>,
    /// Looks in which that target has answered since.
    answers: u8,
}

/// Looks in which a server has answered until it has carried out whatever it was sent before. A first answer may overtake,
/// within one turn of a server that wakes, what an older connection still holds.
pub(super) const ANSWERS: u8 = 2;

impl<G> Finalise<G> {
    pub(super) fn new() -> Self {
        Self { held: None, waiting: VecDeque::new() }
    }

    /// A move wants it; `finishes` when it finishes slots that were found open.
    pub(super) fn want(&mut self, id: MoveId, pair: Pair, finishes: bool, grant: G) {
        self.waiting.push_back(Waiting { id, pair, finishes, grant });
    }

    /// Whether owners are told under it at no other target than this one, and there by nobody who lives.
    pub(super) fn is_idle_but_for(&self, target: NodeId) -> bool {
        self.held.is_none_or(|held| held.orphaned && held.pair.target == target)
    }

    /// Whether somebody waits for it although nobody has it.
    pub(super) fn is_held_up(&self) -> bool {
        self.held.is_none() && !self.waiting.is_empty()
    }

    /// The pair whose move died with it, while nobody has inherited it.
    pub(super) fn orphan(&self) -> Option<Pair> {
        self.held.filter(|held| held.orphaned).map(|held| held.pair)
    }

    /// Gives it to the next who may have it, if it is free for anybody; `may` says which moves may by now.
    pub(super) fn next(&mut self, may: impl Fn(MoveId) -> bool) -> Option<(MoveId, G)> {
        let may = |waiting: &Waiting<G>| may(waiting.id);
        let at = match self.held {
            None => self.waiting.iter().position(may)?,
            Some(Held { orphaned: false, .. } | Held { unheard: Some(_), .. }) => return None,
            Some(Held { pair: heir, .. }) => {
                self.waiting.iter().position(|waiting| waiting.finishes && waiting.pair == heir && may(waiting))?
            }
        };
        let Waiting { id, pair, grant, .. } = self.waiting.remove(at)?;
        self.held = Some(Held { id, pair, orphaned: false, inherited: self.held.is_some(), unheard: None, answers: 0 });
        Some((id, grant))
    }

    /// The moves that wait for it, their targets, and whether they finish slots that were found open.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (MoveId, NodeId, bool)> + '_ {
        self.waiting.iter().map(|waiting| (waiting.id, waiting.pair.target, waiting.finishes))
    }

    /// The permission that [`Finalise::next`] gave could not be handed over: nobody was told anything under it.
    pub(super) fn undelivered(&mut self, id: MoveId) {
        match self.held {
            Some(held) if held.id == id && held.inherited => self.held = Some(Held { orphaned: true, ..held }),
            Some(held) if held.id == id => self.held = None,
            Some(_) | None => {}
        }
    }

    /// Its holder gives it back: the source no longer claims the slots, or nobody was told anything.
    pub(super) fn give_back(&mut self, id: MoveId) {
        if self.held.is_some_and(|held| held.id == id) {
            self.held = None;
        }
    }

    /// Follows failovers: the heir of a pair is whoever finishes its slots between the nodes of now. A target that is
    /// replaced may not have heard yet what it was told: no heir before it was heard of.
    pub(super) fn follow(&mut self, successor: impl Fn(NodeId) -> NodeId) {
        if let Some(held) = self.held.as_mut().filter(|held| held.orphaned) {
            let target = successor(held.pair.target);
            // While one is waited for nobody inherits, and no later target is told anything.
            if target != held.pair.target && held.unheard.is_none() {
                held.unheard = Some(held.pair.target);
            }
            held.pair = Pair { source: successor(held.pair.source), target };
        }
    }

    /// The target that may not have heard yet what it was told, and that a failover has replaced since.
    pub(super) fn unheard(&self) -> Option<NodeId> {
        self.held.and_then(|held| held.unheard)
    }

    /// A look: `answered` says which nodes answered, or are known not to run any more. Lets an heir go on once the target
    /// that was replaced has carried out whatever it had been sent.
    pub(super) fn heard(&mut self, answered: impl Fn(NodeId) -> bool) {
        if let Some(held) = self.held.as_mut().filter(|held| held.unheard.is_some_and(answered)) {
            held.answers += 1;
            if held.answers >= ANSWERS {
                held.unheard = None;
            }
        }
    }

    /// All primaries agree about every slot, by a look that began after every move that has ended had ended; `is_left` says
    /// whether any slot is left open between a pair. Where none is there will be no heir: the servers, or somebody else,
    /// finished the slots. A failover of the target does so.
    pub(super) fn settled(&mut self, is_left: impl Fn(Pair) -> bool) {
        if self.held.is_some_and(|held| held.orphaned && !is_left(held.pair)) {
            self.held = None;
        }
    }

    /// A move has ended; `closed` when it finished slots that were found open and left none of them open. Says whether it died with the finalise in its hands.
    pub(super) fn ended(&mut self, id: MoveId, pair: Pair, closed: bool) -> bool {
        self.waiting.retain(|waiting| waiting.id != id);
        match self.held {
            Some(held) if held.id == id => {
                self.held = Some(Held { orphaned: true, ..held });
                true
            }
            // Its heir found every slot of the pair closed, on both ends' own words.
            Some(held) if held.orphaned && held.pair == pair && closed => {
                self.held = None;
                false
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id as id_of;

    fn pair(text: &str) -> Pair {
        let (source, target) = text.split_once('>').unwrap();
        Pair { source: id_of(source), target: id_of(target) }
    }

    /// Says what happens, one event after the other; `next` gives what `expect` says, in order.
    fn check(events: &[(&str, u64, &str)], expect: &[Option<u64>]) {
        let mut finalise = Finalise::new();
        let mut given = Vec::new();
        for &(event, number, of) in events {
            let id = MoveId(number);
            match event {
                "want" => finalise.want(id, pair(of), false, ()),
                "finishing" => finalise.want(id, pair(of), true, ()),
                // The number says which move may not have it yet.
                "next" => given.push(finalise.next(|other| other != id).map(|(id, ())| id.0)),
                "next but" => {
                    let not_yet = |other: MoveId| of.split(' ').any(|number| number == other.0.to_string());
                    given.push(finalise.next(|other| !not_yet(other)).map(|(id, ())| id.0));
                }
                "back" => finalise.give_back(id),
                "undelivered" => finalise.undelivered(id),
                "ended" => drop(finalise.ended(id, pair(of), false)),
                "fails over to e" => finalise.follow(|node| if node == id_of(of) { id_of("e") } else { node }),
                "e fails over to f" => finalise.follow(|node| if node == id_of("e") { id_of("f") } else { node }),
                "heard of" => finalise.heard(|node| node == id_of(of)),
                "settled" => finalise.settled(|left| of.split(' ').any(|text| !text.is_empty() && pair(text) == left)),
                "closed" => drop(finalise.ended(id, pair(of), true)),
                other => panic!("{other}"),
            }
        }
        assert_eq!(given, expect, "{events:?}");
    }

    #[test]
    fn one_at_a_time_in_the_order_of_asking() {
        check(
            &[
                ("want", 1, "a>d"),
                ("want", 2, "b>d"),
                ("next", 0, ""),
                ("next", 0, ""),
                ("back", 2, ""),
                ("next", 0, ""),
                ("back", 1, ""),
                ("next", 0, ""),
            ],
            &[Some(1), None, None, Some(2)],
        );
    }

    #[test]
    fn both_lanes_of_a_move_get_it_one_after_the_other() {
        let twice = [("want", 1, "a>d"), ("want", 1, "a>d"), ("next", 0, ""), ("next", 0, "")];
        let again = [("back", 1, ""), ("next", 0, ""), ("next", 0, ""), ("back", 1, ""), ("next", 0, "")];
        check(&[&twice[..], &again].concat(), &[Some(1), None, Some(1), None, None]);
    }

    #[test]
    fn a_move_that_dies_with_it_leaves_it_to_whoever_finishes_its_pair() {
        let died = [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d")];
        let others = [("want", 2, "b>d"), ("want", 4, "a>d"), ("next", 0, "")];
        let heir = [("finishing", 3, "a>d"), ("next", 0, ""), ("back", 3, ""), ("next", 0, "")];
        check(&[&died[..], &others, &heir].concat(), &[Some(1), None, Some(3), Some(2)]);
    }

    #[test]
    fn the_heir_of_a_pair_that_failed_over_is_the_pair_of_now() {
        let died = [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d"), ("fails over to e", 0, "a")];
        let after = [("finishing", 2, "a>d"), ("next", 0, ""), ("finishing", 3, "e>d"), ("next", 0, "")];
        check(&[&died[..], &after].concat(), &[Some(1), None, Some(3)]);
    }

    #[test]
    fn an_heir_that_finds_everything_closed_frees_it_and_one_that_does_not_leaves_it() {
        let died = [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d"), ("want", 2, "b>d")];
        check(&[&died[..], &[("closed", 3, "a>d"), ("next", 0, "")]].concat(), &[Some(1), Some(2)]);
        check(&[&died[..], &[("ended", 3, "a>d"), ("next", 0, "")]].concat(), &[Some(1), None]);
        check(&[&died[..], &[("closed", 3, "c>d"), ("next", 0, "")]].concat(), &[Some(1), None]);
    }

    #[test]
    fn an_heir_waits_until_the_replaced_target_was_heard_of() {
        let died = [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d"), ("fails over to e", 0, "d")];
        let heir = [("finishing", 2, "a>e"), ("next", 0, ""), ("heard of", 0, "b"), ("next", 0, "")];
        let heard = [("heard of", 0, "d"), ("next", 0, ""), ("heard of", 0, "d"), ("next", 0, "")];
        check(&[&died[..], &heir, &heard].concat(), &[Some(1), None, None, None, Some(2)]);
        let again = [("e fails over to f", 0, ""), ("heard of", 0, "e"), ("heard of", 0, "e"), ("finishing", 3, "a>f")];
        check(&[&died[..], &again, &[("next", 0, "")]].concat(), &[Some(1), None]);
    }

    #[test]
    fn a_move_that_may_not_have_it_yet_waits_and_holds_up_no_other() {
        let wanted = [("finishing", 1, "a>d"), ("want", 2, "b>d"), ("next", 1, ""), ("back", 2, "")];
        check(&[&wanted[..], &[("next", 1, ""), ("next", 0, "")]].concat(), &[Some(2), None, Some(1)]);
    }

    #[test]
    fn whoever_takes_at_a_node_that_may_not_take_yet_waits_and_holds_up_no_other() {
        let wanted = [("want", 1, "a>d"), ("finishing", 2, "b>d"), ("want", 3, "d>c"), ("next but", 0, "1 2")];
        check(
            &[&wanted[..], &[("back", 3, ""), ("next but", 0, "1 2"), ("next", 0, "")]].concat(),
            &[Some(3), None, Some(1)],
        );
    }

    #[test]
    fn what_the_servers_settled_by_themselves_frees_it() {
        let died = [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d"), ("want", 2, "b>d")];
        check(&[&died[..], &[("settled", 0, "b>c"), ("next", 0, "")]].concat(), &[Some(1), Some(2)]);
        check(&[&died[..], &[("settled", 0, "b>c a>d"), ("next", 0, "")]].concat(), &[Some(1), None]);
        // Who lives gives it back himself.
        let lives = [("want", 1, "a>d"), ("next", 0, ""), ("want", 2, "b>d")];
        check(&[&lives[..], &[("settled", 0, ""), ("next", 0, "")]].concat(), &[Some(1), None]);
    }

    #[test]
    fn a_permission_that_is_not_taken_goes_on_to_the_next() {
        let wanted = [("want", 1, "a>d"), ("want", 2, "b>d"), ("next", 0, "")];
        check(&[&wanted[..], &[("undelivered", 1, ""), ("next", 0, "")]].concat(), &[Some(1), Some(2)]);
        // An inherited one goes back to being nobody's but the pair's.
        let died =
            [("want", 1, "a>d"), ("next", 0, ""), ("ended", 1, "a>d"), ("want", 2, "b>d"), ("finishing", 3, "a>d")];
        let inherited = [("next", 0, ""), ("undelivered", 3, ""), ("next", 0, "")];
        check(&[&died[..], &inherited].concat(), &[Some(1), Some(3), None]);
    }

    #[test]
    fn who_has_ended_waits_no_longer() {
        check(&[("want", 1, "a>d"), ("ended", 1, "a>d"), ("next", 0, "")], &[None]);
    }
}
