//! Whose calls are made one after the other, for the sake of clients.
//!
//! Servers that share a machine keep each other's clients waiting. Which machine a server runs on is told by its address:
//! servers of one machine that have an address each, as in containers, are taken for as many machines, and those of several
//! that are announced by one address for one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

/// How long another move's call is waited for.
const COURTESY: Duration = Duration::from_millis(50);

/// The turns of all moves.
#[derive(Debug, Default)]
pub(super) struct Turns {
    everybody: Arc<Mutex<()>>,
    machines: BTreeMap<String, Arc<Mutex<()>>>,
}

/// The turns that one move takes.
#[derive(Debug)]
pub(super) struct TurnsAt {
    machine: Arc<Mutex<()>>,
    everybody: Arc<Mutex<()>>,
}

/// With whom turns are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    /// Other moves whose source runs on the same machine.
    Neighbours,
    /// All calls of all moves that take turns, neighbours or not.
    Everybody,
}

/// A call may be made until this is dropped. What another one holds for too long is not in it.
#[derive(Default)]
pub(super) struct Turn<'a> {
    machine: Option<MutexGuard<'a, ()>>,
    everybody: Option<MutexGuard<'a, ()>>,
}

impl Turns {
    /// Those of a move whose source is at this host.
    pub(super) fn at(&mut self, host: &str) -> TurnsAt {
        // Hosts come and go.
        self.machines.retain(|_, machine| Arc::strong_count(machine) > 1);
        let machine = Arc::clone(self.machines.entry(host.to_owned()).or_default());
        TurnsAt { machine, everybody: Arc::clone(&self.everybody) }
    }
}

impl TurnsAt {
    /// Waits for the calls of others. A courtesy and no lock: a call that takes long is not waited for.
    pub(super) async fn wait(&self, among: Among) -> Turn<'_> {
        let until = Instant::now() + COURTESY;
        let mut turn = Turn::default();
        // The calls of one move need not wait for each other.
        if self.has_neighbours() {
            turn.machine = timeout_at(until, self.machine.lock()).await.ok();
        }
        if among == Among::Everybody {
            turn.everybody = timeout_at(until, self.everybody.lock()).await.ok();
        }
        turn
    }

    /// Whether there is another move, or who looks ahead of one.
    pub(super) fn has_others(&self) -> bool {
        Arc::strong_count(&self.everybody) > 2
    }

    /// Whether another move's source runs on the same machine.
    fn has_neighbours(&self) -> bool {
        // One of them all, and one of this move.
        Arc::strong_count(&self.machine) > 2
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Whether the second call waits for the first, each of a move of its own with a source at this host.
    fn check([first, second]: [(&str, Among); 2], waits: bool) {
        let mut turns = Turns::default();
        let (one, other) = (turns.at(first.0), turns.at(second.0));
        let turn = one.wait(first.1).now_or_never();
        assert!(turn.is_some(), "nobody else is there");
        assert_eq!(other.wait(second.1).now_or_never().is_none(), waits, "{first:?} {second:?}");
        drop(turn);
        assert!(other.wait(second.1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn sources_of_one_machine_take_turns_and_those_of_others_only_where_everybody_does() {
        check([("a", Among::Neighbours), ("a", Among::Neighbours)], true);
        check([("a", Among::Neighbours), ("a", Among::Everybody)], true);
        check([("a", Among::Everybody), ("a", Among::Neighbours)], true);
        check([("a", Among::Neighbours), ("b", Among::Neighbours)], false);
        check([("a", Among::Neighbours), ("b", Among::Everybody)], false);
        check([("a", Among::Everybody), ("b", Among::Everybody)], true);
    }

    #[tokio::test]
    async fn calls_of_one_move_do_not_wait_for_each_other_unless_everybody_does() {
        let mut turns = Turns::default();
        let (alone, _elsewhere) = (turns.at("a"), turns.at("b"));
        let _first = alone.wait(Among::Neighbours).await;
        assert!(alone.wait(Among::Neighbours).now_or_never().is_some());
        let _all = alone.wait(Among::Everybody).await;
        assert!(alone.wait(Among::Everybody).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_call_that_takes_long_is_not_waited_for_and_what_is_free_is_taken() {
        let mut turns = Turns::default();
        let (one, neighbour, other) = (turns.at("a"), turns.at("a"), turns.at("b"));
        let _hangs = other.wait(Among::Everybody).await;
        let turn = one.wait(Among::Everybody).await;
        assert!(turn.everybody.is_none() && turn.machine.is_some());
        assert!(neighbour.wait(Among::Neighbours).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_machine_without_moves_is_forgotten() {
        let mut turns = Turns::default();
        drop(turns.at("a"));
        let _kept = turns.at("b");
        drop(turns.at("c"));
        assert_eq!(turns.machines.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
