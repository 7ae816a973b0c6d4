//! Strikes at servers, and other hands, while a move stands still at a named point or goes on.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::cluster::NodeId;
use evenkeel::daemon::{Phase, Point};

use crate::arena::{Arena, BACK_WITHIN, within};
use crate::blame::{Blame, Histories, deleted_slots, deletions};
use crate::clients::Loss;
use crate::dice::Dice;
use crate::kills::order;
use crate::outcome::Outcome;
use crate::support::{Daemon, Node};
use crate::witness::Witness;

/// How often a point is passed before it is struck, at the most.
const PASSES: usize = 4;
/// How long after its failover a server comes back, at the most.
const BACK_WITHIN_MS: usize = 3_000;
/// How far a move that is not held gets before it is struck, at the most.
const GOES_ON_MS: usize = 40;
/// Shorter than it takes to be voted out.
const SHORT_FREEZE: Duration = Duration::from_millis(700);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// kill -9, and a new start with nothing, once a replica has taken over.
    Kill(Whom),
    /// SIGSTOP, and SIGCONT once a replica has taken over.
    Freeze(Whom),
    /// SIGSTOP and SIGCONT within the node time-out.
    FreezeShortly(Whom),
    /// `CLUSTER FAILOVER`.
    Failover(Whom),
    /// Another daemon is there already when the first is killed.
    SecondDaemon,
    /// The link is cut for some seconds.
    Cut(Link),
    /// `redis-cli --cluster fix` while the daemon stands still.
    Fix,
}

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    SourceAndTarget,
    DaemonAndSource,
    DaemonAndTarget,
}

/// At whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    Source,
    Target,
    SourceReplica,
    TargetReplica,
    Bystander,
}

impl Blow {
    /// All that strike servers.
    pub(crate) const AT_SERVERS: [Self; 12] = [
        Self::Kill(Whom::Source),
        Self::Kill(Whom::Target),
        Self::Kill(Whom::SourceReplica),
        Self::Kill(Whom::TargetReplica),
        Self::Kill(Whom::Bystander),
        Self::Freeze(Whom::Source),
        Self::Freeze(Whom::Target),
        Self::FreezeShortly(Whom::Source),
        Self::FreezeShortly(Whom::Target),
        Self::Failover(Whom::Source),
        Self::Failover(Whom::Target),
        Self::Failover(Whom::Bystander),
    ];
    /// All that need wires.
    pub(crate) const AT_LINKS: [Self; 3] =
        [Self::Cut(Link::SourceAndTarget), Self::Cut(Link::DaemonAndSource), Self::Cut(Link::DaemonAndTarget)];
    /// All that leave the servers' roles alone.
    pub(crate) const OTHERS: [Self; 6] = [
        Self::SecondDaemon,
        Self::Fix,
        Self::FreezeShortly(Whom::Source),
        Self::FreezeShortly(Whom::Target),
        Self::Kill(Whom::SourceReplica),
        Self::Kill(Whom::TargetReplica),
    ];
}

/// One strike: everything about it but the servers' own timing follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    seed: u64,
    pub(crate) blow: Blow,
    point: Point,
    pass: usize,
    pub(crate) timing: Timing,
}

/// What goes on at the moment of the blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timing {
    /// Clients rest, replicas have everything, and the move stands still.
    Quiesced,
    /// The move stands still.
    Held,
    /// Everything goes on.
    Live,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Strike {
    /// The strike of this seed, one of these blows. As many seeds in a row as there are blows have each of them once; in the
    /// long run each blow, in each of its timings, meets each point.
    pub(crate) fn of(seed: u64, blows: &[Blow]) -> Self {
        let mut dice = Dice::new(seed);
        let number = usize::try_from(seed).expect("a small number");
        // The others are passed only after something else went wrong.
        let usual = |point: &Point| !matches!(point.phase, Phase::Compare | Phase::UnmarkSource | Phase::UnmarkTarget);
        let points: Vec<Point> = Point::all().filter(usual).collect();
        let blow = blows[number % blows.len()];
        let timings = match blow {
            // Who stands still has not died, and hands that would be awaited are not to meet.
            Blow::SecondDaemon | Blow::Fix => &[Timing::Held][..],
            Blow::Kill(_) | Blow::Freeze(_) | Blow::FreezeShortly(_) | Blow::Failover(_) | Blow::Cut(_) => {
                &[Timing::Quiesced, Timing::Held, Timing::Live][..]
            }
        };
        let timing = timings[(number / blows.len()) % timings.len()];
        let series = blows.len() * timings.len();
        let next_series = (series..=series + points.len()).find(|&step| gcd(step, points.len()) == 1);
        let next_series = next_series.expect("one of so many is one more than a multiple");
        let point = points[(number % series + number / series * next_series) % points.len()];
        Self { seed, blow, point, pass: 1 + dice.below(PASSES), timing }
    }

    /// Strikes, and waits for what becomes of it.
    pub(crate) fn strike(&self, arena: &mut Arena, histories: &mut Histories) -> Outcome {
        let mut dice = Dice::new(self.seed ^ 0x5eed);
        let witness = Witness::start(&arena.cluster);
        let mut daemon = self.stand_still(arena, &mut dice);
        let ends = Ends::of(arena);
        let mut outcome = Outcome::new(self.seed, format!("{self}, {}", ends.name(arena)));
        if self.timing == Timing::Quiesced {
            arena.quiesce();
        }
        let owners = arena.histories();
        let deleted_before = deletions(&arena.cluster);
        let since = Instant::now();
        if self.timing == Timing::Live {
            arena.release(&self.point.to_string());
            thread::sleep(Duration::from_millis(dice.below(GOES_ON_MS) as u64));
        }
        let struck = self.strike_at(arena, &ends, &mut daemon);
        arena.release(&self.point.to_string());
        struck.undo(arena, &mut dice, histories);
        outcome.settled = arena.settle(&mut daemon, since);
        histories.learn(&arena.cluster);
        let arrivals = witness.stop();
        arena.clients.work();
        outcome.saw(arena.clients.sweep());
        let deleted = deleted_slots(deletions(&arena.cluster).difference(&deleted_before));
        let blame = |loss: &Loss| {
            let blame = Blame::of(loss, histories, &arrivals, &owners);
            if blame == Blame::Nobody && deleted.contains(&loss.slot()) { Blame::Deleted } else { blame }
        };
        outcome.blames = outcome.seen.lost.iter().map(blame).collect();
        outcome.evidence(&daemon);
        if let Some(slots) = Arena::undecided(&daemon) {
            daemon.kill9();
            outcome.undecided = Some((slots.clone(), arena.settle_as_decided(&slots)));
            daemon = arena.daemon("");
        }
        if !outcome.is_unfinished() {
            arena.rejoin_all();
            arena.await_replicas();
            outcome.marks_left = arena.await_no_marks();
        }
        outcome.count_marks(&daemon);
        daemon.kill9();
        outcome
    }

    /// Has a daemon begin a move and stand still in it.
    fn stand_still(&self, arena: &mut Arena, dice: &mut Dice) -> Daemon {
        let mut pass = self.pass;
        loop {
            arena.shuffle(dice);
            let mut daemon = arena.daemon(&order(self.point, "halt", pass));
            if arena.await_pause(&daemon, &self.point.to_string()) {
                return daemon;
            }
            daemon.kill9();
            pass = 1;
        }
    }

    fn strike_at(&self, arena: &Arena, ends: &Ends, daemon: &mut Daemon) -> Struck {
        let cluster = &arena.cluster;
        let (whom, then): (_, fn(Node, bool) -> Struck) = match self.blow {
            Blow::Kill(whom) => (whom, |node, primary| Struck::Dead { node, primary }),
            Blow::Freeze(whom) => (whom, |node, primary| Struck::Frozen { node, primary }),
            Blow::FreezeShortly(whom) => (whom, |node, _| Struck::FrozenShortly(node)),
            Blow::Failover(whom) => (whom, |node, _| Struck::Replaced(node)),
            Blow::Cut(link) => {
                let Ends { source, target } = *ends;
                match link {
                    Link::SourceAndTarget => arena.cut(target, cluster.pid(source)),
                    Link::DaemonAndSource => arena.cut(source, daemon.pid()),
                    Link::DaemonAndTarget => arena.cut(target, daemon.pid()),
                }
                return Struck::CutOff;
            }
            Blow::SecondDaemon => {
                let second = arena.daemon_without_state();
                let mut first = std::mem::replace(daemon, second);
                first.kill9();
                return Struck::Nobody;
            }
            Blow::Fix => {
                arena.fix();
                return Struck::Nobody;
            }
        };
        let node = ends.at(whom, arena);
        let struck = then(node, arena.is_primary(node));
        match struck {
            Struck::Dead { .. } => cluster.kill9(node),
            Struck::Frozen { .. } | Struck::FrozenShortly(_) => cluster.sigstop(node),
            Struck::Replaced(_) => arena.fail_over(node),
            Struck::CutOff | Struck::Nobody => {}
        }
        struck
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blow, point, pass, timing, .. } = self;
        write!(f, "{blow:?} at {point}@{pass}, {timing:?}")
    }
}

/// Who takes part in the move that is struck.
struct Ends {
    source: Node,
    target: Node,
}

impl Ends {
    /// By the marks, or where there is none by what is to be moved.
    fn of(arena: &Arena) -> Self {
        let cluster = &arena.cluster;
        let of_id = |id: &str| id.parse::<NodeId>().ok().and_then(|id| arena.node(id));
        for node in cluster.running() {
            for mark in cluster.view(node).expect("it answers").open() {
                let mark = mark.trim_matches(['[', ']']);
                if let Some(target) = mark.split_once("->-").and_then(|(_, id)| of_id(id)) {
                    return Self { source: node, target };
                }
                if let Some(source) = mark.split_once("-<-").and_then(|(_, id)| of_id(id)) {
                    return Self { source, target: node };
                }
            }
        }
        let (source, target) = arena.something_to_move().unwrap_or((arena.primary(0), arena.primary(1)));
        Self { source, target }
    }

    fn at(&self, whom: Whom, arena: &Arena) -> Node {
        match whom {
            Whom::Source => self.source,
            Whom::Target => self.target,
            Whom::SourceReplica => arena.partner(self.source),
            Whom::TargetReplica => arena.partner(self.target),
            Whom::Bystander => {
                let others = (0..arena.shards.len()).map(|shard| arena.primary(shard));
                others.into_iter().find(|node| ![self.source, self.target].contains(node)).expect("there are three")
            }
        }
    }

    fn name(&self, arena: &Arena) -> String {
        format!("{} -> {}", arena.cluster.name(self.source), arena.cluster.name(self.target))
    }
}

/// What is to be undone after a blow.
enum Struck {
    Dead { node: Node, primary: bool },
    Frozen { node: Node, primary: bool },
    FrozenShortly(Node),
    Replaced(Node),
    CutOff,
    Nobody,
}

impl Struck {
    /// Brings back what was struck, a primary only when its replica has taken over.
    fn undo(self, arena: &Arena, dice: &mut Dice, histories: &mut Histories) {
        let cluster = &arena.cluster;
        let mut await_replacement = |node: Node| {
            within(BACK_WITHIN, || arena.replaced(node));
            histories.learn(cluster);
        };
        let back = Duration::from_millis(dice.below(BACK_WITHIN_MS) as u64);
        match self {
            Self::Dead { node, primary } => {
                if primary {
                    await_replacement(node);
                }
                thread::sleep(back);
                cluster.restart(node);
                arena.rejoin(node);
            }
            Self::Frozen { node, primary } => {
                if primary {
                    await_replacement(node);
                }
                thread::sleep(back);
                cluster.sigcont(node);
                arena.rejoin(node);
            }
            Self::FrozenShortly(node) => {
                thread::sleep(SHORT_FREEZE);
                cluster.sigcont(node);
            }
            Self::Replaced(node) => await_replacement(node),
            Self::CutOff => {
                thread::sleep(back);
                arena.mend();
            }
            Self::Nobody => {}
        }
    }
}
