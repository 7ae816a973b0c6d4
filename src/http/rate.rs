//! How many requests are answered a second. All answers are made from memory; what is more than this is no monitor and no
//! person, but a loop that has gone wrong, or somebody who guesses tokens.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::handlers::failure;

/// Requests that change nothing, a second: some dashboards, some pages that are opened, and room.
const READS: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Orders a second: they come from people, and each waits for the supervisor and a disk.
const ORDERS: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// The limits of one server.
pub(super) struct Limits {
    reads: DefaultDirectRateLimiter,
    orders: DefaultDirectRateLimiter,
}

impl Limits {
    /// Nothing was asked yet. After a rest a second's worth is answered at once.
    pub(super) fn new() -> Arc<Self> {
        let limiter = |rate| RateLimiter::direct(Quota::per_second(rate));
        Arc::new(Self { reads: limiter(READS), orders: limiter(ORDERS) })
    }
}

/// Answers with 429 what is too much.
pub(super) async fn limit(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let is_order = *request.method() == Method::POST;
    let (limiter, rate) = if is_order { (&limits.orders, ORDERS) } else { (&limits.reads, READS) };
    if limiter.check().is_ok() {
        return next.run(request).await;
    }
    let what = if is_order { "orders" } else { "requests" };
    let mut response =
        failure(StatusCode::TOO_MANY_REQUESTS, format!("no more than {rate} {what} a second are answered"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
