//! The replicas of one end of a move: whether one of them has what its primary has.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tracing::debug;

use crate::cluster::{Address, NodeId, Replication, Shard};
use crate::redis::{Conn, Dialer};

/// Between two looks at a replica that is behind: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The replicas that a primary had when the move began.
#[derive(Debug)]
pub(super) struct Followers(Vec<Follower>);

#[derive(Debug)]
struct Follower {
    node: NodeId,
    address: Address,
    hostname: Option<String>,
    conn: Option<Conn>,
    /// It could not be reached: what its primary says of it has to do.
    unreachable: bool,
}

impl Followers {
    pub(super) fn of(shard: &Shard) -> Self {
        let followers = shard.replicas.iter().filter_map(|member| {
            let (node, address, hostname) = (member.id, member.address.clone()?, member.hostname.clone());
            Some(Follower { node, address, hostname, conn: None, unreachable: false })
        });
        Self(followers.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same replicas, none of them connected.
    pub(super) fn unconnected(&self) -> Self {
        let followers = self.0.iter().map(|follower| Follower {
            node: follower.node,
            address: follower.address.clone(),
            hostname: follower.hostname.clone(),
            conn: None,
            unreachable: false,
        });
        Self(followers.collect())
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
                return true;
            }
        }
        false
    }
}

impl Follower {
    async fn has(&mut self, stream: &str, offset: u64, dialer: &Dialer) -> bool {
        if self.conn.as_ref().is_none_or(Conn::is_dead) && !self.unreachable {
            match dialer.open(&self.address, self.hostname.as_deref(), self.node).await {
                Ok(conn) => self.conn = Some(conn),
                Err(why) => {
                    debug!(node = %self.node, %why, "the replica cannot be asked");
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
