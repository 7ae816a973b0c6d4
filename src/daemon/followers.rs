//! The replicas of one end of a move: whether one of them has what its primary has.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::debug;

use crate::cluster::{Address, NodeId, Replication, Shard};
use crate::redis::{Conn, Dialer};

/// Between two looks at a replica that is behind: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The replicas that a primary had when the move began.
#[derive(Debug)]
pub(super) struct Followers {
    known: Vec<(NodeId, Address, Option<String>)>,
    /// `None` of one that could not be reached: what its primary says of it has to do.
    conns: BTreeMap<NodeId, Option<Conn>>,
}

impl Followers {
    pub(super) fn of(shard: &Shard) -> Self {
        let known = shard.replicas.iter();
        let known = known.filter_map(|member| Some((member.id, member.address.clone()?, member.hostname.clone())));
        Self { known: known.collect(), conns: BTreeMap::new() }
    }

    pub(super) fn close(&mut self) {
        self.conns.clear();
    }

    /// Waits until one of them has carried out all that the primary has by now, for as long as any follows it; the error
    /// is why the primary cannot be asked.
    ///
    /// Replicas are asked themselves: a primary hears of their progress only once a second. (`WAIT` tells nothing here. It
    /// is about what its own connection wrote, and the target's keys were written by the source's.)
    pub(super) async fn await_one(&mut self, primary: &Conn, dialer: &Dialer) -> Result<(), String> {
        let mut now = replication(primary).await?;
        let wanted = (now.id.clone(), now.offset);
        let mut wait = FIRST_WAIT;
        loop {
            if need_no_wait(&now, wanted.1) || self.one_has(&wanted, dialer).await {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            now = replication(primary).await?;
        }
    }

    /// Whether one of them says that it has come so far in this stream.
    async fn one_has(&mut self, (stream, offset): &(String, u64), dialer: &Dialer) -> bool {
        for (node, address, hostname) in &self.known {
            if self.conns.get(node).is_none_or(|conn| conn.as_ref().is_some_and(Conn::is_dead)) {
                let opened = dialer.open(address, hostname.as_deref(), *node).await;
                let opened = opened.inspect_err(|why| debug!(%node, %why, "the replica cannot be asked"));
                self.conns.insert(*node, opened.ok());
            }
            let Some(Some(conn)) = self.conns.get(node) else { continue };
            if replication(conn).await.is_ok_and(|now| now.id == *stream && now.offset >= *offset) {
                return true;
            }
        }
        false
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
