//! What needs a socket: how serving ends, and what lasts longer than an answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{local, routes, routes_with};
use crate::clock::Now;
use crate::daemon::Status;
use crate::http::{Streams, bind, serve_and_drain};
use crate::metrics::testing::{starting, working};

/// Serves a daemon in mid-work; gives where, and what ends it.
fn served(drain_max: Duration) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let routes = routes(working(Now::read()), local());
    (address, token.clone(), tokio::spawn(serve_and_drain(listener, routes, token, drain_max)))
}

#[tokio::test]
async fn serving_ends_with_the_token_once_connections_are_idle() {
    let (address, token, serving) = served(Duration::from_mins(1));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: evenkeel\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    token.cancel();
    tokio::time::timeout(Duration::from_secs(30), serving).await.expect("it ends").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_connection_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let (address, token, serving) = served(Duration::from_millis(50));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    token.cancel();
    tokio::time::timeout(Duration::from_secs(30), serving).await.expect("it ends").unwrap().unwrap();
}

fn events_request() -> Request<Body> {
    Request::get("/api/v1/events").body(Body::empty()).unwrap()
}

/// The next pieces of a stream, one event each, as names and documents.
async fn next_events(stream: &mut BodyDataStream, count: usize) -> Vec<(String, serde_json::Value)> {
    let mut events = Vec::new();
    while events.len() < count {
        let piece = stream.next().await.expect("the stream goes on").unwrap();
        let text = String::from_utf8(piece.to_vec()).unwrap();
        let (name, data) = text.trim_end().split_once('\n').unwrap();
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        events.push((name.strip_prefix("event: ").unwrap().to_owned(), data));
    }
    events
}

#[tokio::test]
async fn a_stream_begins_with_everything_goes_on_with_what_differs_and_ends_with_the_server() {
    let stop = CancellationToken::new();
    let response =
        routes_with(working(Now::read()), local(), Streams::new(stop.clone())).oneshot(events_request()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let events = next_events(&mut stream, 4).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["topology", "plan", "history", "status"]);
    assert_eq!(events[2].1["moves"][0]["trouble"], "the target is full");
    assert_eq!(events[3].1["cluster"], "cache-eu");
    // Nothing but the ages of the status differ.
    for (name, _) in next_events(&mut stream, 3).await {
        assert_eq!(name, "status");
    }
    stop.cancel();
    assert!(stream.next().await.is_none(), "a stop ends the stream");
}

#[tokio::test]
async fn that_there_is_no_plan_is_told_too() {
    let status = Status { plan: None, ..working(Now::read()) };
    let streams = Streams::new(CancellationToken::new());
    let response = routes_with(status, local(), streams).oneshot(events_request()).await.unwrap();
    let events = next_events(&mut response.into_body().into_data_stream(), 4).await;
    assert_eq!(events[1], ("plan".to_owned(), serde_json::Value::Null));
}

#[tokio::test]
async fn streams_are_limited_and_an_ended_one_makes_room() {
    let routes = routes_with(starting(Now::read()), local(), Streams::new(CancellationToken::new()));
    let mut streams = Vec::new();
    let refused = loop {
        let response = routes.clone().oneshot(events_request()).await.unwrap();
        if response.status() != 200 {
            break response;
        }
        streams.push(response);
    };
    assert_eq!((streams.len(), refused.status().as_u16()), (32, 503));
    streams.pop();
    assert_eq!(routes.oneshot(events_request()).await.unwrap().status(), 200);
}
