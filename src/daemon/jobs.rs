//! Asking every primary for the migrations that it carries out by itself, in each look.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::poller::side_by_side;
use crate::cluster::{NodeId, ServerJob};
use crate::redis::{CallError, Conn, JobSupport};

/// What the primaries can be asked, by the process that said so.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    support: BTreeMap<NodeId, (String, JobSupport)>,
    /// Nodes whose jobs could not be read last time: said once.
    told: BTreeSet<NodeId>,
}

/// The jobs of a node that go on, or why they cannot be told.
pub(super) type NodeJobs = Result<Vec<ServerJob>, String>;

impl Jobs {
    /// The jobs of these nodes. Nodes without such migrations, and those that may not be asked, are left out.
    pub(super) async fn read(&mut self, conns: Vec<&Conn>) -> BTreeMap<NodeId, NodeJobs> {
        let asks: Vec<_> = conns.into_iter().map(|conn| ask(conn, self.known(conn))).collect();
        let mut all = BTreeMap::new();
        for (node, run_id, asked) in side_by_side(asks).await {
            match asked {
                Ok((support, jobs)) => {
                    self.support.insert(node, (run_id, support));
                    self.told.remove(&node);
                    all.extend(jobs.map(|jobs| (node, Ok(jobs))));
                }
                Err(error) => {
                    if self.told.insert(node) {
                        warn!(%node, %error, "the migrations that a node carries out by itself cannot be read");
                    }
                    all.insert(node, Err(error.to_string()));
                }
            }
        }
        all
    }

    fn known(&self, conn: &Conn) -> Option<JobSupport> {
        let (run_id, support) = self.support.get(&conn.node())?;
        // Another process may be another version, and permissions may have been given meanwhile.
        (run_id == conn.run_id() && *support != JobSupport::NotPermitted).then_some(*support)
    }
}

type Asked = Result<(JobSupport, Option<Vec<ServerJob>>), CallError>;

async fn ask(conn: &Conn, known: Option<JobSupport>) -> (NodeId, String, Asked) {
    let asked = async {
        let support = match known {
            Some(support) => support,
            None => conn.job_support().await?,
        };
        match support {
            JobSupport::None | JobSupport::NotPermitted => Ok((support, None)),
            JobSupport::Has(kind) => Ok((support, conn.server_jobs(kind).await?)),
        }
    };
    (conn.node(), conn.run_id().to_owned(), asked.await)
}
