//! A node whose background saves fail.

use std::fs;
use std::path::PathBuf;

use super::cluster::Cluster;
use super::node::Node;
use super::wait::{SOON, eventually};

/// Background saves fail at this node until [`FailingSaves::end`].
pub(crate) struct FailingSaves {
    node: Node,
    /// What is saved cannot take the place of a directory.
    in_the_way: PathBuf,
}

impl FailingSaves {
    /// Has the node save by itself, and lets one save fail.
    #[track_caller]
    pub(crate) fn begin(cluster: &Cluster, node: Node) -> Self {
        let directory: Vec<String> = cluster.cmd(node, &["CONFIG", "GET", "dir"]);
        let in_the_way = PathBuf::from(&directory[1]).join("dump.rdb");
        fs::create_dir(&in_the_way).expect("the directory of a server is writable");
        cluster.cmd::<()>(node, &["CONFIG", "SET", "save", "3600 1"]);
        save(cluster, node, "err");
        Self { node, in_the_way }
    }

    /// The next save is done.
    #[track_caller]
    pub(crate) fn end(self, cluster: &Cluster) {
        fs::remove_dir(&self.in_the_way).expect("it is there");
        save(cluster, self.node, "ok");
    }
}

/// Has a node save its data in the background, and waits for how that ends.
#[track_caller]
fn save(cluster: &Cluster, node: Node, ends: &str) {
    eventually("a background save ends", SOON, || {
        // Refused while another one is under way.
        let _ = cluster.try_cmd::<()>(node, &["BGSAVE"]);
        let status = cluster.info_field(node, "rdb_last_bgsave_status");
        if status == ends { Ok(()) } else { Err(status) }
    });
}
