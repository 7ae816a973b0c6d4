//! The state as a stream of server-sent events: what the page lives on.
//!
//! Each event is one of the documents that a path answers with: `status` at every beat, `topology`, `plan` (`null` while there
//! is none) and `history` when there is another than this stream told last. A stream begins with all that there are, so that
//! whoever was cut off needs nothing but a new one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::AppState;
use super::guard::Closed;
use super::handlers::failure;
use super::json::{ErrorDocument, history_document, plan_document, status_document, topology_document};
use super::rate::Limited;
use crate::clock::Now;
use crate::daemon::Status;
use crate::journal::History;
use crate::plan::Plan;

/// Streams at once: some operators, some tabs each. One costs the making of a status twice a second.
const STREAMS_MAX: usize = 32;
/// Between two events `status`: as often as an eye wants it, and a tenth of what would be felt on a core.
const BEAT: Duration = Duration::from_millis(500);
/// Moves in an event `history`; the path has all.
const HISTORY: usize = 50;

/// The streams of one server.
#[derive(Clone)]
pub struct Streams {
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

impl Streams {
    /// No stream yet. They all end when the token is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, places: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

/// The documents of the other paths as they change, as server-sent events: `status` twice a second, `topology`, `plan` and
/// `history` when there is another one.
#[utoipa::path(get, path = "/api/v1/events", tag = "state", security((), ("token" = [])), responses(
    Closed,
    Limited,
    (status = OK, content_type = "text/event-stream", body = String),
    (status = SERVICE_UNAVAILABLE, description = "As many streams as may be are open already", body = ErrorDocument),
))]
pub(super) async fn events(State(state): State<AppState>) -> Response {
    let Ok(place) = Arc::clone(&state.streams.places).try_acquire_owned() else {
        let error = format!("{STREAMS_MAX} streams are open already: close one, or ask /api/v1/status again and again");
        return failure(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    // Proxies that would hold events back until there are many are asked not to.
    ([(header::CACHE_CONTROL.as_str(), "no-store"), ("x-accel-buffering", "no")], Sse::new(told(state, place)))
        .into_response()
}

fn told(state: AppState, place: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let teller = Teller { state, beat, told: None, next: VecDeque::new(), _place: place };
    stream::unfold(teller, async |mut teller| teller.next().await.map(|event| (Ok(event), teller)))
}

/// One stream.
struct Teller {
    state: AppState,
    beat: Interval,
    /// What was told last; `None` before anything was.
    told: Option<Told>,
    next: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Teller {
    async fn next(&mut self) -> Option<Event> {
        while self.next.is_empty() {
            tokio::select! {
                () = self.state.streams.stop.cancelled() => return None,
                _ = self.beat.tick() => self.take_in(&self.state.latest()),
            }
        }
        self.next.pop_front()
    }

    fn take_in(&mut self, status: &Status) {
        let new = Told::of(status);
        let last = self.told.as_ref();
        let view = last.is_none_or(|last| last.view != new.view);
        let plan = last.is_none_or(|last| !last.has_plan_of(&new));
        let history = last.is_none_or(|last| !Arc::ptr_eq(&last.history, &new.history));
        self.told = Some(new);
        // The page draws nodes before what happens at them.
        if let Some(seen) = status.view.as_ref().filter(|_| view) {
            self.tell("topology", &topology_document(&seen.topology, &seen.infos));
        }
        if plan {
            self.tell("plan", &status.plan.as_deref().map(plan_document));
        }
        if history {
            self.tell("history", &history_document(status.history.iter(), HISTORY));
        }
        self.tell("status", &status_document(status, Now::read()));
    }

    fn tell(&mut self, name: &'static str, document: &impl Serialize) {
        let text = serde_json::to_string(document).expect("documents are made of texts and numbers only");
        self.next.push_back(Event::default().event(name).data(text));
    }
}

/// Which of the things that seldom change a stream has told: compared by what they are, not by what is in them.
struct Told {
    /// The number of the look.
    view: Option<u64>,
    plan: Option<Arc<Plan>>,
    history: Arc<History>,
}

impl Told {
    fn of(status: &Status) -> Self {
        let view = status.view.as_ref().map(|view| view.number);
        Self { view, plan: status.plan.clone(), history: Arc::clone(&status.history) }
    }

    fn has_plan_of(&self, other: &Self) -> bool {
        match (&self.plan, &other.plan) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (one, another) => one.is_none() && another.is_none(),
        }
    }
}
