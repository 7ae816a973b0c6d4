//! What other clients of the nodes that moves keep busy feel: an ordinary client of ours asks each of them again and again,
//! on a connection of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cluster::{Address, NodeId, client_calls};
use crate::redis::{CallError, Conn, Dialer};
use crate::throttle::Latency;

/// How often a node is asked: about a thousandth of what it can answer, and a figure every 200 ms.
const EVERY: Duration = Duration::from_millis(10);
/// How often a node is asked what it does for clients; the first time sooner, for until then a move spares everybody, and is
/// slow. In so short a time a node with few clients may seem to have none, until the next count.
const COUNT_EVERY: Duration = Duration::from_secs(1);
const FIRST_COUNT: Duration = Duration::from_millis(50);
/// How old a count may be that was taken before: of what was so then, and not since.
const COUNT_GOOD_FOR: Duration = Duration::from_secs(5);
/// A node that carries out fewer commands of clients in a second is taken to have none.
const IN_USE: f64 = 10.0;
/// After a connection that was not made, or was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long clients of one node wait for an answer, beyond the time of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Felt {
    /// Figures so far, so that each is heeded once.
    pub(super) number: u64,
    /// The last one; `None` before the first, and while there is no connection.
    pub(super) latency: Option<Duration>,
    /// The node serves clients; until the contrary is known, it does.
    pub(super) in_use: bool,
}

impl Felt {
    const NOTHING: Self = Self { number: 0, latency: None, in_use: true };
}

/// How many commands of clients a node had carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientCount {
    calls: u64,
    at: Instant,
}

impl ClientCount {
    /// So many by now; `None` where it does not say.
    pub(super) async fn read(conn: &Conn) -> Option<Self> {
        Some(Self { calls: client_calls(&conn.info(Some("commandstats")).await.ok()?), at: Instant::now() })
    }

    /// Whether clients have used the node between this count and a newer one; counters may have begun anew meanwhile.
    fn shows_use_until(self, newer: Self) -> bool {
        let calls = newer.calls.checked_sub(self.calls);
        calls.is_none_or(|calls| calls as f64 >= IN_USE * (newer.at - self.at).as_secs_f64())
    }

    /// Whether a count of now, together with this one, tells what is so.
    fn is_of_use(&self) -> bool {
        (FIRST_COUNT..=COUNT_GOOD_FOR).contains(&self.at.elapsed())
    }
}

/// Asks one node for as long as anybody holds it.
#[derive(Debug)]
pub(super) struct Canary {
    address: Address,
    felt: watch::Receiver<Felt>,
    task: JoinHandle<()>,
}

impl Canary {
    /// The newest figure.
    pub(super) fn felt(&self) -> Felt {
        *self.felt.borrow()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One canary a node, however many moves it has a part in.
#[derive(Debug, Default)]
pub(super) struct Canaries(BTreeMap<NodeId, Weak<Canary>>);

impl Canaries {
    /// The canary of a node; a new one where none is at work, which goes on from a count that was taken before.
    pub(super) fn at(
        &mut self,
        node: NodeId,
        address: &Address,
        hostname: Option<&str>,
        dialer: &Dialer,
        counted: Option<ClientCount>,
    ) -> Arc<Canary> {
        self.0.retain(|_, canary| canary.strong_count() > 0);
        let known = self.0.get(&node).and_then(Weak::upgrade);
        if let Some(canary) = known.filter(|canary| canary.address == *address) {
            return canary;
        }
        let (sender, felt) = watch::channel(Felt::NOTHING);
        let asking = ask(dialer.clone(), node, address.clone(), hostname.map(str::to_owned), counted, sender);
        let canary = Arc::new(Canary { address: address.clone(), felt, task: tokio::spawn(asking) });
        self.0.insert(node, Arc::downgrade(&canary));
        canary
    }

    /// The configuration has changed: whoever begins from now on has canaries that are dialled by the new one.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The newest figure of every node that is asked at present.
    pub(super) fn felt(&self) -> BTreeMap<NodeId, Duration> {
        self.0.iter().filter_map(|(&node, canary)| Some((node, canary.upgrade()?.felt().latency?))).collect()
    }
}

/// What does not answer is for others to deal with: here it only counts as slow, until its connection is given up.
async fn ask(
    dialer: Dialer,
    node: NodeId,
    address: Address,
    hostname: Option<String>,
    counted: Option<ClientCount>,
    felt: watch::Sender<Felt>,
) {
    // Nothing but small questions, one at a time, for as long as slots move.
    let dialer = dialer.bare();
    loop {
        if let Ok(conn) = dialer.open(&address, hostname.as_deref(), node).await {
            ask_on(&conn, counted.filter(ClientCount::is_of_use), &felt).await;
            felt.send_modify(|felt| (felt.latency, felt.in_use) = (None, true));
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Until the connection is lost.
async fn ask_on(conn: &Conn, counted: Option<ClientCount>, felt: &watch::Sender<Felt>) {
    let mut latency = Latency::new(EVERY);
    let mut turns = interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut count, mut count_at) = (counted, Instant::now());
    while !conn.is_dead() {
        turns.tick().await;
        if Instant::now() >= count_at {
            let newest = ClientCount::read(conn).await;
            let in_use = count.zip(newest).is_none_or(|(older, newer)| older.shows_use_until(newer));
            felt.send_modify(|felt| felt.in_use = in_use);
            count_at = Instant::now() + if count.is_none() { FIRST_COUNT } else { COUNT_EVERY };
            count = newest;
        }
        let began = Instant::now();
        // Whatever it answers, it has answered.
        let answered = !matches!(conn.call("PING", Vec::new()).await, Err(CallError::NoAnswer { .. }));
        let took = began.elapsed();
        // A connection that is closed says so at once, which is no time of the network's.
        if (answered || took > EVERY)
            && let Some(figure) = latency.on_call(took)
        {
            felt.send_modify(|felt| (felt.number, felt.latency) = (felt.number + 1, Some(figure)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_in_use_where_clients_send_it_ten_commands_a_second() {
        let check = |before: u64, now: u64, ms: u64, expect: bool| {
            let older = ClientCount { calls: before, at: Instant::now() };
            let newer = ClientCount { calls: now, at: older.at + Duration::from_millis(ms) };
            assert_eq!(older.shows_use_until(newer), expect, "{before} {now} {ms}");
        };
        check(100, 109, 1_000, false);
        check(100, 110, 1_000, true);
        check(100, 102, 200, true);
        check(100, 101, 50, true);
        check(100, 100, 50, false);
        check(100, 101, 200, false);
        check(100, 3, 1_000, true);
    }
}
