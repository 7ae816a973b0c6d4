//! Where the lease is kept: in a key of a server, or in an object of Kubernetes. Both are asked alike.

use std::time::Duration;

use crate::cluster::{Address, NodeId};
use crate::config::Config;
#[cfg(feature = "kubernetes")]
use crate::kubernetes::{LeaseObject, RECORD_MAX};
use crate::lease::{LeaseCall, LeaseReply};
use crate::redis::{Dialer, LeaseServer};

/// What keeps the lease.
pub(super) enum Home {
    Server(ServerHome),
    #[cfg(feature = "kubernetes")]
    Kubernetes(LeaseObject),
}

/// A Redis or Valkey, and the key there.
pub(super) struct ServerHome {
    dialer: Dialer,
    address: Address,
    key: String,
    server: Option<LeaseServer>,
}

impl Home {
    /// The home that is configured, if one is.
    pub(super) fn of(config: &Config, instance: &str) -> Option<Self> {
        #[cfg(feature = "kubernetes")]
        if let Some(at) = &config.lease.kubernetes {
            // A renewal that takes longer than the time to the next one is given up.
            let limit = config.migration.call_timeout.min(config.lease.ttl / super::RENEWALS);
            return Some(Self::Kubernetes(LeaseObject::new(at.clone(), limit)));
        }
        let address = config.lease.address.clone()?;
        let (dialer, key) = (Dialer::of_lease(config, instance), config.lease.key(&config.cluster.name));
        Some(Self::Server(ServerHome { dialer, address, key, server: None }))
    }

    /// How it is called, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Server(home) => home.key.clone(),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(object) => object.name(),
        }
    }

    /// How long it may take until it is known who has the lease, with this time for a call.
    #[cfg_attr(not(feature = "kubernetes"), expect(unused_variables, reason = "a server asks for none of it"))]
    pub(super) fn patience(&self, call_timeout: Duration, ttl: Duration) -> Duration {
        match self {
            Self::Server(_) => call_timeout,
            // It is watched for as long as it lasts, in whole seconds, and looked at between renewals.
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => ttl + Duration::from_secs(1) + ttl / super::RENEWALS * 2 + call_timeout,
        }
    }

    /// Why a record of open slots has no room there; `None` when it has.
    #[cfg_attr(not(feature = "kubernetes"), expect(unused_variables, reason = "a server asks for none of it"))]
    pub(super) fn objection(&self, record: &str) -> Option<String> {
        match self {
            Self::Server(_) => None,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => (record.len() > RECORD_MAX).then(|| crate::kubernetes::too_long(record.len())),
        }
    }

    /// The node that keeps it, where it is one of a cluster.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Server(home) => home.server.as_ref().and_then(LeaseServer::node),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => None,
        }
    }

    /// Takes, renews or gives back the lease. The error is for people.
    pub(super) async fn call(&mut self, call: LeaseCall<'_>) -> Result<LeaseReply, String> {
        match self {
            Self::Server(home) => home.call(call).await,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(object) => object.call(call).await,
        }
    }
}

impl ServerHome {
    async fn call(&mut self, call: LeaseCall<'_>) -> Result<LeaseReply, String> {
        if self.server.as_ref().is_none_or(LeaseServer::is_dead) {
            let opened = LeaseServer::open(&self.dialer, &self.address).await;
            self.server = Some(opened.map_err(|error| error.to_string())?);
        }
        let Some(server) = &self.server else { return Err("no connection".to_owned()) };
        server.call(&self.key, call).await.map_err(|error| error.to_string())
    }
}
