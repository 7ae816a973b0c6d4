//! An API server of Kubernetes for tests, as far as Leases go: in this process, over plain HTTP, on loopback.
//!
//! It refuses what the real one refuses: a change of another version than the one that is there, a change that names none,
//! a second object of a name, a duration that is not positive, annotations beyond 256 KiB.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;

use super::LeaseObject;
use crate::config::KubernetesLease;

/// What goes wrong with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Hangs,
    Forbids,
    /// Does what it is told, and says nothing of it.
    LosesAnswers,
}

#[derive(Debug)]
struct Inner {
    lease: Option<Lease>,
    version: u64,
    mood: Mood,
    /// What others write just before the next changes of ours, one each.
    rivals: Vec<Lease>,
    changes: usize,
}

/// The server; it ends with the runtime of its test.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let inner = Inner { lease: None, version: 100, mood: Mood::Well, rivals: Vec::new(), changes: 0 };
        let inner = Arc::new(Mutex::new(inner));
        let all = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases";
        let router = Router::new()
            .route(all, post(create))
            .route(&format!("{all}/{{name}}"), get(read).put(replace))
            .with_state(Arc::clone(&inner));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { inner, url }
    }

    /// Somebody who uses its object `evenkeel` of the namespace `tools`.
    pub(crate) fn caller(&self, limit: Duration) -> LeaseObject {
        caller_at(&self.url, limit)
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// The object as it is.
    pub(crate) fn lease(&self) -> Lease {
        self.lock().lease.clone().expect("the Lease is there")
    }

    /// How many changes were made.
    pub(crate) fn changes(&self) -> usize {
        self.lock().changes
    }

    /// Changes the object, or makes it, as somebody else would.
    pub(crate) fn write(&self, change: impl FnOnce(&mut Lease)) {
        let mut inner = self.lock();
        let mut lease = inner.lease.take().unwrap_or_default();
        change(&mut lease);
        inner.put(lease);
    }

    /// Somebody is faster than the next change of ours, with this one.
    pub(crate) fn be_overtaken(&self, change: impl FnOnce(&mut Lease)) {
        let mut inner = self.lock();
        let mut lease = inner.lease.clone().unwrap_or_default();
        change(&mut lease);
        inner.rivals.push(lease);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

/// Somebody who asks a server at this address.
pub(crate) fn caller_at(url: &str, limit: Duration) -> LeaseObject {
    let mut config = Config::new(url.parse().unwrap());
    config.default_retry = false;
    let at = KubernetesLease { name: "evenkeel".to_owned(), namespace: Some("tools".to_owned()) };
    LeaseObject::with_client(at, limit, Client::try_from(config).unwrap())
}

impl Inner {
    fn put(&mut self, mut lease: Lease) -> Lease {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }

    fn overtake(&mut self) {
        if !self.rivals.is_empty() {
            let rival = self.rivals.remove(0);
            self.put(rival);
        }
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

/// Waits for ever, or answers, as it is told to.
async fn moody(shared: &Shared, made: Response) -> Response {
    let mood = shared.lock().unwrap().mood;
    match mood {
        Mood::Well => made,
        Mood::Hangs | Mood::LosesAnswers => std::future::pending().await,
        Mood::Forbids => refuse(StatusCode::FORBIDDEN, "Forbidden", "leases.coordination.k8s.io is forbidden"),
    }
}

async fn read(shared: Shared, Path((namespace, name)): Path<(String, String)>) -> Response {
    assert_eq!((&*namespace, &*name), ("tools", "evenkeel"));
    let lease = shared.lock().unwrap().lease.clone();
    let made = match lease {
        Some(lease) => Json(lease).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "NotFound", "leases.coordination.k8s.io \"evenkeel\" not found"),
    };
    if shared.lock().unwrap().mood == Mood::LosesAnswers {
        return made;
    }
    moody(&shared, made).await
}

async fn create(shared: Shared, Json(lease): Json<Lease>) -> Response {
    let made = change(&shared, lease, |inner, _| {
        inner.lease.is_some().then(|| refuse(StatusCode::CONFLICT, "AlreadyExists", "it already exists"))
    });
    moody(&shared, made).await
}

async fn replace(shared: Shared, Json(lease): Json<Lease>) -> Response {
    let made = change(&shared, lease, |inner, lease| {
        let Some(there) = &inner.lease else { return Some(refuse(StatusCode::NOT_FOUND, "NotFound", "not found")) };
        let (ours, theirs) = (&lease.metadata.resource_version, &there.metadata.resource_version);
        if ours.is_none() {
            return Some(refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                "metadata.resourceVersion: must be given",
            ));
        }
        let says = "the object has been modified; please apply your changes to the latest version and try again";
        (ours != theirs).then(|| refuse(StatusCode::CONFLICT, "Conflict", says))
    });
    moody(&shared, made).await
}

fn change(shared: &Shared, lease: Lease, objects: impl FnOnce(&Inner, &Lease) -> Option<Response>) -> Response {
    let mut inner = shared.lock().unwrap();
    if matches!(inner.mood, Mood::Hangs | Mood::Forbids) {
        return StatusCode::OK.into_response();
    }
    inner.overtake();
    if let Some(refused) = objects(&inner, &lease) {
        return refused;
    }
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    if seconds.is_some_and(|seconds| seconds <= 0) {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "leaseDurationSeconds: must be greater than 0");
    }
    let annotations = lease.metadata.annotations.iter().flatten();
    if annotations.map(|(key, value)| key.len() + value.len()).sum::<usize>() > 256 * 1024 {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "metadata.annotations: Too long");
    }
    inner.changes += 1;
    Json(inner.put(lease)).into_response()
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": message,
    });
    (code, Json(status)).into_response()
}
