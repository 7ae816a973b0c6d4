//! What goes on in a cluster while evenkeel works on it.

use super::cluster::Cluster;
use super::data::Data;
use super::verifier::{Options, Verifier};

/// Known keys in a cluster, and verifying clients at work on others.
#[derive(Debug)]
pub(crate) struct Workload {
    data: Vec<Data>,
    verifier: Verifier,
}

impl Workload {
    /// Fills the first database with this many keys and the special ones, and starts the clients.
    #[track_caller]
    pub(crate) fn start(cluster: &Cluster, keys: usize) -> Self {
        Self::over(cluster, vec![Data::fill_database(cluster, keys, 0)])
    }

    /// Starts the clients beside keys that are there already.
    #[track_caller]
    pub(crate) fn over(cluster: &Cluster, data: Vec<Data>) -> Self {
        Self { data, verifier: Verifier::start(cluster, Options::default()) }
    }

    /// Ends the clients and panics unless they saw no error and lost nothing, and every key holds what it held.
    #[track_caller]
    pub(crate) fn assert_unharmed(self, cluster: &Cluster) {
        self.verifier.stop().assert_clean();
        for data in self.data {
            data.verify_all(cluster);
        }
    }
}
