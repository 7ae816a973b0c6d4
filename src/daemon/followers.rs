//! The replicas of one end of a move: whether one of them has what its primary has.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use tracing::debug;

use crate::cluster::{Address, NodeId, Replication, Shard};
use crate::redis::{Conn, Dialer, OpenError};

/// Between two looks at a replica that is behind: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How long answers are waited for that are not needed any more.
const LATE: Duration = Duration::from_millis(5);

/// A node, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) address: Address,
    pub(super) hostname: Option<String>,
}

impl Peer {
    /// A connection to it; any other node that answers there is an error.
    pub(super) async fn dial(&self, dialer: &Dialer) -> Result<Conn, OpenError> {
        dialer.open(&self.address, self.hostname.as_deref(), self.node).await
    }
}

/// The replicas that a primary had when the move began.
#[derive(Debug)]
pub(super) struct Followers(Vec<Follower>);

#[derive(Debug)]
struct Follower {
    peer: Peer,
    conn: Option<Conn>,
    /// It could not be reached: what its primary says of it has to do.
    unreachable: bool,
}

impl Followers {
    pub(super) fn of(shard: &Shard) -> Self {
        let followers = shard.replicas.iter().filter_map(|member| {
            let (node, address, hostname) = (member.id, member.address.clone()?, member.hostname.clone());
            Some(Follower::new(Peer { node, address, hostname }))
        });
        Self(followers.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same replicas, none of them connected.
    pub(super) fn unconnected(&self) -> Self {
        Self(self.peers().map(Follower::new).collect())
    }

    /// Who they are.
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.0.iter().map(|follower| follower.peer.clone())
    }

    pub(super) fn close(&mut self) {
        for follower in &mut self.0 {
            follower.conn = None;
        }
    }

    /// Waits until one of them has carried out all that the primary has by now, for as long as any follows it; the error
    /// is why the primary cannot be asked.
    ///
    /// Replicas are asked themselves: a primary hears of their progress only once a second. (`WAIT` tells nothing here. It
    /// is about what its own connection wrote, and the target's keys were written by the source's.)
    pub(super) async fn await_one(&mut self, primary: &Conn, dialer: &Dialer) -> Result<(), String> {
        let mut now = replication(primary).await?;
        let (stream, offset) = (now.id.clone(), now.offset);
        let mut wait = FIRST_WAIT;
        loop {
            if need_no_wait(&now, offset) || self.one_has(&stream, offset, dialer).await {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            now = replication(primary).await?;
        }
    }

    /// Whether one of them says that it has come so far in this stream. All are asked at once: one that hangs holds none up.
    async fn one_has(&mut self, stream: &str, offset: u64, dialer: &Dialer) -> bool {
        let asked = self.0.iter_mut().map(|follower| follower.has(stream, offset, dialer).boxed());
        let mut answers: FuturesUnordered<_> = asked.collect();
        while let Some(has) = answers.next().await {
            if has {
                // A connection whose answer is not taken is lost.
                let _ = timeout(LATE, answers.for_each(|_| std::future::ready(()))).await;
                return true;
            }
        }
        false
    }
}

impl Follower {
    fn new(peer: Peer) -> Self {
        Self { peer, conn: None, unreachable: false }
    }

    async fn has(&mut self, stream: &str, offset: u64, dialer: &Dialer) -> bool {
        if self.conn.as_ref().is_none_or(Conn::is_dead) && !self.unreachable {
            match self.peer.dial(dialer).await {
                Ok(conn) => self.conn = Some(conn),
                Err(why) => {
                    debug!(node = %self.peer.node, %why, "the replica cannot be asked");
                    self.unreachable = true;
                }
            }
        }
        let Some(conn) = self.conn.as_ref().filter(|conn| !conn.is_dead()) else { return false };
        replication(conn).await.is_ok_and(|now| now.id == stream && now.offset >= offset)
    }
}

/// Whether no replica follows, or one has acknowledged so much already.
fn need_no_wait(primary: &Replication, offset: u64) -> bool {
    let mut online = primary.replicas.iter().filter(|replica| replica.online).peekable();
    online.peek().is_none() || online.any(|replica| replica.offset >= offset)
}

async fn replication(conn: &Conn) -> Result<Replication, String> {
    let info = conn.info(Some("replication")).await.map_err(|error| error.to_string())?;
    Replication::parse(&info).map_err(|error| error.to_string())
}
