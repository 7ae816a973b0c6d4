//! A Lease of Kubernetes as the home of the lease: the one place that names the client library.
//!
//! What decides is the API server's own comparison: each change names the version that it was made of, and of two made of
//! the same one the second is refused. When a lease of somebody else has run out is counted by our own clock, from when we
//! first saw it as it is: clocks of machines differ. How long ours is good for is not here; that is `daemon`'s.

mod verdict;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Config, Error};
use tokio::time::Instant;

use crate::config::KubernetesLease;
use crate::lease::{LeaseCall, LeaseReply};
use verdict::{Verdict, Watch};

/// The annotation with the holder's open slots.
const OPEN_SLOTS: &str = "evenkeel.io/open-slots";
/// The annotation with the machine that the holder runs on.
const HOST: &str = "evenkeel.io/host";
/// Bytes of a record of open slots. An object's annotations may have 256 KiB together; the rest is for those of others.
pub const RECORD_MAX: usize = 240 * 1024;
/// Tries of one call: whoever writes in between (a renewal, `kubectl label`) has its change read first.
const TRIES: u32 = 3;

/// A Lease of Kubernetes, by whose name and namespace one of several instances is chosen.
pub struct LeaseObject {
    at: KubernetesLease,
    client: Option<Client>,
    limit: Duration,
    watch: Watch,
}

impl LeaseObject {
    /// The object need not exist: whoever first asks for the lease makes it. A call may take as long as `limit`.
    #[must_use]
    pub fn new(at: KubernetesLease, limit: Duration) -> Self {
        Self { at, client: None, limit, watch: Watch::default() }
    }

    /// The same, by a client that is there already.
    #[cfg(test)]
    pub(crate) fn with_client(at: KubernetesLease, limit: Duration, client: Client) -> Self {
        Self { client: Some(client), ..Self::new(at, limit) }
    }

    /// How the object is called, for people.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.at.namespace {
            Some(namespace) => format!("{namespace}/{}", self.at.name),
            None => self.at.name.clone(),
        }
    }

    /// Takes, renews or gives back the lease. The error is for people.
    ///
    /// After an error nothing is known: the change may have been made.
    pub async fn call(&mut self, call: LeaseCall<'_>) -> Result<LeaseReply, String> {
        let record = call.open.map_or(0, str::len);
        if record > RECORD_MAX {
            return Err(too_long(record));
        }
        let limit = self.limit;
        let late = || format!("the API server of Kubernetes did not answer within {} ms", limit.as_millis());
        tokio::time::timeout(limit, self.try_call(call)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn try_call(&mut self, call: LeaseCall<'_>) -> Result<LeaseReply, String> {
        let api = self.api().await?;
        for _ in 0..TRIES {
            let found = api.get_opt(&self.at.name).await.map_err(|error| say(&error))?;
            let written = match self.watch.judge(found.as_ref(), &call, Instant::now()) {
                Verdict::Answer(reply) => return Ok(reply),
                Verdict::Write { takes } => {
                    let lease = next(found.as_ref(), &self.at.name, &call, takes);
                    match &found {
                        Some(_) => api.replace(&self.at.name, &PostParams::default(), &lease).await,
                        None => api.create(&PostParams::default(), &lease).await,
                    }
                }
            };
            match written {
                Ok(_) => return Ok(LeaseReply::Ours { open: annotation(found.as_ref(), OPEN_SLOTS) }),
                // Somebody was faster; what he wrote decides.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(say(&error)),
            }
        }
        Err(format!("the Lease {} was changed by somebody else {TRIES} times in a row", self.name()))
    }

    async fn api(&mut self) -> Result<Api<Lease>, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => connect().await?,
        };
        let api = match &self.at.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::default_namespaced(client.clone()),
        };
        self.client = Some(client);
        Ok(api)
    }
}

/// A client by the kubeconfig, else by the pod's service account. Opens no connection yet.
async fn connect() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|error| format!("no way to Kubernetes: {error}"))?;
    // The next renewal is the next try.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| say(&error))
}

/// The object as the caller wants it. Of its version, so that it is refused when somebody was faster.
fn next(found: Option<&Lease>, name: &str, call: &LeaseCall<'_>, takes: bool) -> Lease {
    let now = MicroTime(jiff::Timestamp::now());
    let mut lease = found.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Lease::default()
    });
    let was = lease.spec.take().unwrap_or_default();
    let gives_back = call.ttl.is_zero();
    let changes = i32::from(takes && found.is_some());
    lease.spec = Some(LeaseSpec {
        holder_identity: (!gives_back).then(|| call.instance.to_owned()),
        lease_duration_seconds: Some(whole_seconds(call.ttl)),
        acquire_time: if takes { Some(now.clone()) } else { was.acquire_time.clone() },
        renew_time: Some(now),
        lease_transitions: Some(was.lease_transitions.unwrap_or(0).saturating_add(changes)),
        ..was
    });
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(HOST.to_owned(), call.host.to_owned());
    // Who takes it has not read the record yet, and leaves it as it is.
    if let Some(open) = call.open {
        annotations.insert(OPEN_SLOTS.to_owned(), open.to_owned());
    }
    lease
}

/// Rounded up, lest others count on less than we do; one at the least, which is what Kubernetes allows.
fn whole_seconds(ttl: Duration) -> i32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX).max(1)
}

fn annotation(lease: Option<&Lease>, name: &str) -> String {
    let annotations: Option<&BTreeMap<String, String>> = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    annotations.and_then(|annotations| annotations.get(name)).cloned().unwrap_or_default()
}

/// Why a record cannot be written, for people.
pub(crate) fn too_long(bytes: usize) -> String {
    format!(
        "the record of open slots has {bytes} bytes, and an annotation of the Lease takes {RECORD_MAX}: lower \
         migration.parallel or migration.group_slots"
    )
}

/// The API server's own words, else all that the library knows of what went wrong on the way there.
fn say(error: &Error) -> String {
    if let Error::Api(status) = error {
        return format!("the API server of Kubernetes says {}: {}", status.code, status.message);
    }
    let mut said = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        let more = error.to_string();
        if !said.ends_with(&more) {
            said = format!("{said}: {more}");
        }
        inner = error.source();
    }
    format!("the API server of Kubernetes cannot be asked: {said}")
}
