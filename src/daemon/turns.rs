//! Whose calls are made one after the other, for the sake of clients.
//!
//! Servers that share a machine keep each other's clients waiting. Which machine a server runs on is told by its address;
//! servers of one machine that have an address each, as in containers, are taken for as many machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

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
pub(super) enum With {
    /// With moves whose source runs on the same machine.
    Machine,
    /// With all that take turns.
    Everybody,
}

/// A call may be made until this is dropped.
pub(super) struct Turn<'a> {
    _guards: (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>),
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
    /// Waits for the calls of others. A courtesy and no lock: a call that takes long is not waited for, and there is no turn.
    pub(super) async fn wait(&self, with: With) -> Option<Turn<'_>> {
        let both = async {
            let machine = self.machine.lock().await;
            let everybody = match with {
                With::Machine => None,
                With::Everybody => Some(self.everybody.lock().await),
            };
            Turn { _guards: (machine, everybody) }
        };
        timeout(COURTESY, both).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn sources_of_one_machine_take_turns_and_those_of_others_only_where_everybody_does() {
        let check = async |[first, second]: [(&str, With); 2], waits: bool| {
            let mut turns = Turns::default();
            let (one, other) = (turns.at(first.0), turns.at(second.0));
            let turn = one.wait(first.1).await;
            assert!(turn.is_some());
            assert_eq!(other.wait(second.1).now_or_never().is_none(), waits, "{first:?} {second:?}");
            drop(turn);
            assert!(other.wait(second.1).now_or_never().is_some());
        };
        check([("a", With::Machine), ("a", With::Machine)], true).await;
        check([("a", With::Machine), ("a", With::Everybody)], true).await;
        check([("a", With::Everybody), ("a", With::Machine)], true).await;
        check([("a", With::Machine), ("b", With::Machine)], false).await;
        check([("a", With::Machine), ("b", With::Everybody)], false).await;
        check([("a", With::Everybody), ("b", With::Everybody)], true).await;
    }

    #[tokio::test]
    async fn a_call_that_takes_long_is_not_waited_for() {
        let mut turns = Turns::default();
        let (one, other) = (turns.at("a"), turns.at("a"));
        let _hangs = one.wait(With::Machine).await;
        assert!(other.wait(With::Machine).await.is_none());
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
