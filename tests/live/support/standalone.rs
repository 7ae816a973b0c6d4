//! A server that is part of no cluster.

use evenkeel::cluster::Address;

use super::node::Server;
use super::servers::Flavour;

/// A running server with cluster support disabled; killed when dropped.
pub(crate) struct Standalone(Server);

impl Standalone {
    /// Starts it.
    pub(crate) fn start(flavour: Flavour) -> Self {
        Self(Server::start(flavour.server(), None, |port| vec!["--port".to_owned(), port.to_string()]))
    }

    /// Where clients reach it.
    pub(crate) fn address(&self) -> Address {
        self.0.address()
    }

    /// Stops it: connections stay open, nothing is answered.
    pub(crate) fn sigstop(&self) {
        self.0.sigstop();
    }

    /// Lets it go on.
    pub(crate) fn sigcont(&self) {
        self.0.sigcont();
    }
}
