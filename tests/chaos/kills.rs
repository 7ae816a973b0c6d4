//! Kills of the daemon, at every named point of a move.

use std::time::{Duration, Instant};

use evenkeel::daemon::{Moment, Phase, Point};

use crate::arena::{Arena, Journal, SETTLED_WITHIN};
use crate::dice::Dice;
use crate::outcome::Outcome;
use crate::support::{Daemon, Node, eventually};

/// How far into a move a point may be struck: there are some twelve groups of slots, and a hundred calls of `MIGRATE`.
const PASSES: usize = 6;

/// One kill: everything about it follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) seed: u64,
    pub(crate) point: Point,
    pub(crate) journal: Journal,
}

impl Kill {
    /// As many seeds in a row as there are points strike each point once, every other time without the journal.
    pub(crate) fn of(seed: u64) -> Self {
        let points: Vec<Point> = Point::all().collect();
        let number = usize::try_from(seed).expect("a small number");
        let kept = (number + number / points.len()).is_multiple_of(2);
        let journal = if kept { Journal::Kept } else { Journal::Deleted };
        Self { seed, point: points[number % points.len()], journal }
    }

    /// Kills a daemon at the point and lets another one finish.
    pub(crate) fn strike(&self, arena: &mut Arena) -> Outcome {
        let what = format!("daemon killed at {}, journal {}", self.point, self.journal);
        let mut outcome = Outcome::new(self.seed, what);
        let mut dice = Dice::new(self.seed);
        self.kill(arena, &mut dice);
        let since = Instant::now();
        if self.journal == Journal::Deleted {
            arena.delete_journal();
        }
        // While nobody is there: no slot is without an owner, and every key can be read.
        eventually("every slot has an owner", Duration::from_secs(5), || arena.whole());
        outcome.saw(arena.clients.sweep());
        let mut daemon = arena.daemon("");
        outcome.settled = arena.settle(&mut daemon, since);
        arena.clients.work();
        outcome.saw(arena.clients.sweep());
        outcome.evidence(&daemon);
        daemon.kill9();
        outcome
    }

    /// Has daemons begin moves until one of them dies at the point.
    fn kill(&self, arena: &mut Arena, dice: &mut Dice) {
        let mut pass = 1 + dice.below(PASSES);
        loop {
            arena.shuffle(dice);
            let killed = match self.point.phase {
                Phase::UnmarkTarget => self.kill_unmarking_target(arena),
                Phase::Compare => self.kill_comparing(arena),
                Phase::UnmarkSource => self.kill_unmarking_source(arena),
                Phase::RecordOpened
                | Phase::Look
                | Phase::MarkTarget
                | Phase::MarkSource
                | Phase::List
                | Phase::Migrate
                | Phase::TakeFinalise
                | Phase::Count
                | Phase::AssignTarget
                | Phase::AssignSource
                | Phase::GiveBack
                | Phase::RecordClosed => dies(arena.daemon(&order(self.point, "kill", pass))),
            };
            if killed {
                return;
            }
            pass = 1;
        }
    }

    /// Slots that are marked at the target alone are closed by whoever finds them.
    fn kill_unmarking_target(&self, arena: &Arena) -> bool {
        let marked = Point { phase: Phase::MarkTarget, moment: Moment::After };
        dies(arena.daemon(&order(marked, "kill", 1))) && dies(arena.daemon(&order(self.point, "kill", 1)))
    }

    /// A copy on both ends is compared before it is overwritten by whoever did not make it.
    fn kill_comparing(&self, arena: &Arena) -> bool {
        let moving = Point { phase: Phase::Migrate, moment: Moment::After };
        if !dies(arena.daemon(&order(moving, "kill", 1))) {
            return false;
        }
        // Nothing is written until the end: a copy that is older than its original is a conflict, and a human's to solve.
        arena.clients.rest();
        copy_a_key(arena) && dies(arena.daemon(&order(self.point, "kill", 1)))
    }

    /// A source that refuses to mark the rest of a group makes the daemon close what is open of it.
    fn kill_unmarking_source(&self, arena: &Arena) -> bool {
        let half = Point { phase: Phase::MarkSource, moment: Moment::Half };
        let asked = Point { phase: Phase::MarkSource, moment: Moment::After };
        let orders = [order(half, "pause", 1), order(asked, "pause", 1), order(self.point, "kill", 1)];
        // Of more pairs another one would pass the points.
        let daemon = arena.daemon_of_one_pair(&orders.join(","));
        let permit = |rule: &str| {
            for node in arena.cluster.nodes() {
                arena.cluster.cmd::<()>(node, &["ACL", "SETUSER", "default", rule]);
            }
        };
        if !arena.await_pause(&daemon, &half.to_string()) {
            return false;
        }
        permit("-cluster|setslot");
        arena.release(&half.to_string());
        let refused = arena.await_pause(&daemon, &asked.to_string());
        permit("+cluster|setslot");
        arena.release(&asked.to_string());
        refused && dies(daemon)
    }
}

/// Waits until the daemon dies; `false` when it settles the cluster instead.
fn dies(mut daemon: Daemon) -> bool {
    eventually("the daemon dies or settles", SETTLED_WITHIN, || {
        if !daemon.runs() {
            return Ok(true);
        }
        Arena::at_rest(&daemon).map(|()| false)
    })
}

/// `list.after=kill@3`.
pub(crate) fn order(point: Point, action: &str, pass: usize) -> String {
    format!("{point}={action}@{pass}")
}

/// Copies one key of some open slot from its source to its target.
fn copy_a_key(arena: &Arena) -> bool {
    let cluster = &arena.cluster;
    let of_id = |id: &str| cluster.nodes().into_iter().find(|&node| cluster.node_id(node).to_string() == id);
    let copy = |node: Node, mark: &str| -> Option<()> {
        let (slot, target) = mark.trim_matches(['[', ']']).split_once("->-")?;
        let keys: Vec<String> = cluster.cmd(node, &["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
        let address = cluster.announced(of_id(target)?);
        let key = keys.first()?;
        let port = address.port.to_string();
        cluster.cmd::<()>(node, &["MIGRATE", &address.host, &port, "", "0", "1000", "COPY", "KEYS", key]);
        Some(())
    };
    let mut marks = cluster.nodes().into_iter().flat_map(|node| {
        cluster.view(node).expect("it answers").open().into_iter().map(move |mark| (node, mark)).collect::<Vec<_>>()
    });
    marks.any(|(node, mark)| copy(node, &mark).is_some())
}
