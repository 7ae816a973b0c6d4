//! What is asked of the home of a lease, and what that answers: a key of a server and an object of Kubernetes are asked
//! alike. How long an answer is good for is not here; that is `daemon`'s.

use std::time::Duration;

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct LeaseCall<'a> {
    /// The name of the caller.
    pub instance: &'a str,
    /// The machine that the caller runs on.
    pub host: &'a str,
    /// How long the lease is to last from now; zero gives it back.
    pub ttl: Duration,
    /// The caller's open slots; `None` from one who does not have the lease yet.
    pub open: Option<&'a str>,
}

/// What its home says of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// It is the caller's.
    Ours {
        /// The open slots that were on record.
        open: String,
    },
    /// It has somebody's name on it, and nobody has been seen to renew it since we began to look.
    Watched {
        /// His name.
        instance: String,
        /// The machine that he runs on.
        host: String,
        /// After how long without a renewal it may be taken.
        left: Duration,
    },
    /// It is somebody else's, or was meanwhile.
    Held {
        /// His name.
        instance: String,
        /// The machine that he runs on.
        host: String,
        /// How long he has it still, unless he renews it; zero when it has run out.
        left: Duration,
    },
}
