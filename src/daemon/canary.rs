//! What other clients of the nodes that moves keep busy feel: an ordinary client of ours asks each of them again and again,
//! on a connection of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cluster::{Address, NodeId};
use crate::redis::{CallError, Conn, Dialer};
use crate::throttle::Latency;

/// How often a node is asked: about a thousandth of what it can answer, and a figure every 200 ms.
const EVERY: Duration = Duration::from_millis(10);
/// After a connection that was not made, or was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long clients of one node wait for an answer, beyond the time of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Felt {
    /// Figures so far, so that each is heeded once.
    pub(super) number: u64,
    /// The last one; `None` before the first, and while there is no connection.
    pub(super) latency: Option<Duration>,
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
    /// The canary of a node; a new one where none is at work.
    pub(super) fn at(
        &mut self,
        node: NodeId,
        address: &Address,
        hostname: Option<&str>,
        dialer: &Dialer,
    ) -> Arc<Canary> {
        self.0.retain(|_, canary| canary.strong_count() > 0);
        let known = self.0.get(&node).and_then(Weak::upgrade);
        if let Some(canary) = known.filter(|canary| canary.address == *address) {
            return canary;
        }
        let (sender, felt) = watch::channel(Felt::default());
        let asking = ask(dialer.clone(), node, address.clone(), hostname.map(str::to_owned), sender);
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
async fn ask(dialer: Dialer, node: NodeId, address: Address, hostname: Option<String>, felt: watch::Sender<Felt>) {
    loop {
        if let Ok(conn) = dialer.open(&address, hostname.as_deref(), node).await {
            ask_on(&conn, &felt).await;
            felt.send_modify(|felt| felt.latency = None);
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Until the connection is lost.
async fn ask_on(conn: &Conn, felt: &watch::Sender<Felt>) {
    let mut latency = Latency::new(EVERY);
    let mut turns = interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !conn.is_dead() {
        turns.tick().await;
        let began = Instant::now();
        // Whatever it answers, it has answered.
        let answered = !matches!(conn.call("PING", Vec::new()).await, Err(CallError::NoAnswer { .. }));
        let took = began.elapsed();
        // A connection that is closed says so at once, which is no time of the network's.
        if (answered || took > EVERY)
            && let Some(figure) = latency.on_call(took)
        {
            felt.send_modify(|felt| *felt = Felt { number: felt.number + 1, latency: Some(figure) });
        }
    }
}
