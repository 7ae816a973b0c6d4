//! What every path answers, without a socket; and the little that needs one.

use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use expect_test::{Expect, expect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::*;
use crate::clock::Now;
use crate::config::TokenSource;
use crate::daemon::{Reason, obeying};
use crate::metrics::testing::{now, starting, working};
use crate::plan::{Infeasible, TargetFault};

const POLL: Duration = Duration::from_secs(5);

fn routes(status: Status, guard: Guard) -> Router {
    // A receiver gives the last value even when its sender is gone, as it is at the end of the process.
    let (_, status) = watch::channel(Arc::new(status));
    let metrics = Arc::new(Metrics::new("cache-eu").unwrap());
    let commands = obeying(&"5".parse().unwrap(), now().wall);
    router(AppState { status, metrics, commands, guard, poll: Arc::new(|| POLL) })
}

/// Status code, content type and body.
async fn ask(status: Status, method: &str, path: &str) -> (u16, String, String) {
    answer(status, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

/// A listener that only this machine reaches, and no token.
fn local() -> Guard {
    guard("127.0.0.1:7380", None)
}

fn guard(listen: &str, token_file: Option<&Path>) -> Guard {
    Guard { listen: listen.parse().unwrap(), token: TokenSource::only_file(token_file.map(Path::to_owned)) }
}

async fn answer(status: Status, request: Request<Body>) -> (u16, String, String) {
    answer_guarded(status, local(), request).await
}

async fn answer_guarded(status: Status, guard: Guard, request: Request<Body>) -> (u16, String, String) {
    let response = routes(status, guard).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let kind = response.headers().get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (code, kind, String::from_utf8(body.to_vec()).unwrap())
}

async fn check(status: Status, request: &str, expect: Expect) {
    let (method, path) = request.split_once(' ').unwrap();
    assert_answer(ask(status, method, path).await, expect);
}

/// Posts this body, announced as this kind, to a daemon that has set slot 5 aside.
async fn check_post(path: &str, kind: &str, body: &'static str, expect: Expect) {
    let request = Request::builder().method("POST").uri(path).header(header::HOST, "127.0.0.1:7380");
    let request = request.header(header::CONTENT_TYPE, kind);
    assert_answer(answer(working(Now::read()), request.body(Body::from(body)).unwrap()).await, expect);
}

#[track_caller]
fn assert_answer((code, kind, body): (u16, String, String), expect: Expect) {
    let body = match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(json) => serde_json::to_string_pretty(&json).unwrap() + "\n",
        Err(_) => body,
    };
    expect.assert_eq(&format!("{code} {kind}\n{body}"));
}

#[tokio::test]
async fn the_first_page_names_the_others() {
    let (code, _, page) = ask(starting(Now::read()), "GET", "/").await;
    assert_eq!(code, 200);
    let tells = page.split("To tell it something").next().unwrap();
    for path in tells.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| word.starts_with('/')) {
        let (code, _, _) = ask(working(Now::read()), "GET", path).await;
        assert_eq!(code, 200, "{path}");
    }
}

#[tokio::test]
async fn only_reading_is_possible_and_what_is_not_there_is_said_in_json() {
    let status = || working(Now::read());
    check(
        status(),
        "GET /api/v1/slots",
        expect![[r#"
        404 application/json
        {
          "error": "there is nothing at /api/v1/slots; / lists what there is"
        }
    "#]],
    )
    .await;
    check(
        status(),
        "POST /api/v1/status",
        expect![[r#"
        405 application/json
        {
          "error": "/api/v1/status takes GET and HEAD, not POST"
        }
    "#]],
    )
    .await;
    check(
        status(),
        "HEAD /healthz",
        expect![[r#"
        200 text/plain; charset=utf-8
    "#]],
    )
    .await;
}

/// The status code and error of a resume with these headers, told to a daemon with this guard; no error when it goes on.
async fn told(guard: Guard, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = Request::builder().method("POST").uri("/api/v1/resume");
    for (name, value) in [("content-type", "application/json")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let (code, _, body) = answer_guarded(working(Now::read()), guard, request.body(Body::from("{}")).unwrap()).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    (code, body["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn without_a_token_only_programs_of_this_machine_are_obeyed() {
    let here = ("host", "localhost:7380");
    let accepted: &[&[(&str, &str)]] =
        &[&[here], &[("host", "[::1]:7380")], &[here, ("origin", "http://localhost:7380")]];
    for headers in accepted {
        assert_eq!(told(local(), headers).await, (200, String::new()), "{headers:?}");
    }
    let refused: &[(&[(&str, &str)], &str)] = &[
        (&[], "Host must be"),
        (&[("host", "rebound.example:7380")], "Host must be"),
        (&[here, ("x-forwarded-for", "10.0.0.9")], "nothing is taken from a proxy"),
        (&[here, ("X-Forwarded-Host", "localhost")], "nothing is taken from a proxy"),
        (&[here, ("forwarded", "for=10.0.0.9")], "nothing is taken from a proxy"),
        (&[here, ("origin", "http://evil.example")], "no page of another server"),
        (&[here, ("origin", "null")], "no page of another server"),
        (&[here, ("origin", "http://localhost:8080")], "no page of another server"),
        (&[here, ("origin", "\u{e9}")], "no page of another server"),
    ];
    for (headers, says) in refused {
        let (code, error) = told(local(), headers).await;
        assert!(code == 403 && error.contains(says), "{headers:?}: {code} {error}");
    }
    let (code, error) = told(guard("0.0.0.0:7380", None), &[here]).await;
    assert!(code == 403 && error.contains("set http.token_file or EVENKEEL_HTTP_TOKEN"), "{code} {error}");
}

#[tokio::test]
async fn with_a_token_whoever_shows_it_is_obeyed_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let guard = || guard("0.0.0.0:7380", Some(&file));
    let elsewhere = ("host", "evenkeel.example");
    let shown = |token| [elsewhere, ("x-forwarded-for", "10.0.0.9"), ("authorization", token)];
    assert_eq!(told(guard(), &shown("Bearer s3cret")).await, (200, String::new()));
    for wrong in ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "Basic czNjcmV0", "s3cret"] {
        let (code, error) = told(guard(), &shown(wrong)).await;
        assert!(code == 401 && error.contains("http.token_file"), "{wrong}: {code} {error}");
    }
    assert_eq!(told(guard(), &[("host", "localhost:7380")]).await.0, 401, "also on this machine");

    // Another token, from the next call on.
    std::fs::write(&file, "other").unwrap();
    assert_eq!(told(guard(), &shown("Bearer s3cret")).await.0, 401);
    assert_eq!(told(guard(), &shown("Bearer other")).await.0, 200);
    std::fs::remove_file(&file).unwrap();
    let (code, error) = told(guard(), &shown("Bearer other")).await;
    assert!(code == 503 && !error.contains("other"), "{code} {error}");
}

#[tokio::test]
async fn a_pause_begins_and_ends_as_told() {
    let json = "application/json";
    check_post(
        "/api/v1/pause",
        json,
        "{}",
        expect![[r#"
        200 application/json
        {
          "paused": {
            "since": "2027-01-15T08:00:00.000Z",
            "until": null
          },
          "survives_restart": true
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/pause",
        json,
        r#"{"for_s": 0}"#,
        expect![[r#"
        400 application/json
        {
          "error": "for_s: 1 to 31622400 seconds; without it, the pause lasts until /api/v1/resume"
        }
    "#]],
    )
    .await;
    check_post("/api/v1/pause", json, r#"{"for_s": -5}"#, expect![[r#"
        422 application/json
        {
          "error": "Failed to deserialize the JSON body into the target type: for_s: invalid value: integer `-5`, expected u64 at line 1 column 12"
        }
    "#]]).await;
    check_post("/api/v1/pause", json, r#"{"for": "1h"}"#, expect![[r#"
        422 application/json
        {
          "error": "Failed to deserialize the JSON body into the target type: for: unknown field `for`, expected `for_s` at line 1 column 6"
        }
    "#]]).await;
    check_post(
        "/api/v1/pause",
        "text/plain",
        "{}",
        expect![[r#"
        415 application/json
        {
          "error": "Expected request with `Content-Type: application/json`"
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/resume",
        json,
        "{}",
        expect![[r#"
        200 application/json
        {
          "returns_at_restart": false,
          "was_paused": {
            "since": "2027-01-15T08:00:00.000Z",
            "until": null
          }
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/resume",
        json,
        "",
        expect![[r#"
        400 application/json
        {
          "error": "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0"
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn slots_that_were_set_aside_are_put_back_and_others_are_named() {
    let json = "application/json";
    check_post(
        "/api/v1/retry",
        json,
        r#"{"slots": "5,900-910"}"#,
        expect![[r#"
        200 application/json
        {
          "not_set_aside": {
            "count": 11,
            "ranges": "900-910"
          },
          "put_back": {
            "count": 1,
            "ranges": "5"
          }
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/retry",
        json,
        r#"{"slots": ""}"#,
        expect![[r#"
        400 application/json
        {
          "error": "no slot is named"
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/retry",
        json,
        r#"{"slots": "5-16384"}"#,
        expect![[r#"
        400 application/json
        {
          "error": "slots: `16384` is not a slot: slots are the numbers 0 to 16383"
        }
    "#]],
    )
    .await;
    check_post("/api/v1/retry", json, r#"{"slots": "5", "force": true}"#, expect![[r#"
        422 application/json
        {
          "error": "Failed to deserialize the JSON body into the target type: force: unknown field `force`, expected `slots` at line 1 column 22"
        }
    "#]]).await;
    check_post("/api/v1/retry", json, "5", expect![[r#"
        422 application/json
        {
          "error": "Failed to deserialize the JSON body into the target type: invalid type: integer `5`, expected struct RetryRequest at line 1 column 1"
        }
    "#]]).await;
    check_post(
        "/api/v1/retry",
        json,
        "",
        expect![[r#"
        400 application/json
        {
          "error": "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0"
        }
    "#]],
    )
    .await;
    // What a form on a page of somebody else's can send.
    check_post(
        "/api/v1/retry",
        "text/plain",
        r#"{"slots": "5"}"#,
        expect![[r#"
        415 application/json
        {
          "error": "Expected request with `Content-Type: application/json`"
        }
    "#]],
    )
    .await;
    check(
        working(Now::read()),
        "GET /api/v1/retry",
        expect![[r#"
        405 application/json
        {
          "error": "/api/v1/retry takes POST, not GET"
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn metrics_are_told_in_the_text_format() {
    let (code, kind, text) = ask(working(Now::read()), "GET", "/metrics").await;
    assert_eq!((code, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("\nevenkeel_moves_running{cluster=\"cache-eu\"} 1\n"), "{text}");
}

#[tokio::test]
async fn the_process_is_ill_only_when_the_supervisor_does_not_turn() {
    let (code, _, text) = ask(starting(Now::read()), "GET", "/healthz").await;
    assert!(code == 200 && text.starts_with("ok: the supervisor turned "), "{code} {text}");
    let turned = |ms: u64| {
        let now = now();
        let turned = now.instant.checked_sub(Duration::from_millis(ms)).unwrap();
        handlers::health(&Status { turned, ..starting(now) }, now, POLL)
    };
    assert_eq!(turned(14_900), Ok("the supervisor turned 14.9 s ago".to_owned()));
    assert_eq!(turned(15_000), Err("the supervisor turned 15.0 s ago; it should every 5.0 s".to_owned()));
}

#[tokio::test]
async fn it_is_ready_while_the_view_of_the_cluster_is_fresh() {
    let (code, _, text) = ask(working(Now::read()), "GET", "/readyz").await;
    assert!(code == 200 && text.starts_with("ok: the cluster was last read "), "{code} {text}");
    let errors = || vec!["10.0.0.1:6379: connection refused".to_owned(), "10.0.0.2:6379: timed out".to_owned()];
    check(
        starting(Now::read()),
        "GET /readyz",
        expect![[r#"
        503 text/plain; charset=utf-8
        not ok: the cluster has not been read yet
    "#]],
    )
    .await;
    check(
        Status { look_errors: errors(), ..starting(Now::read()) },
        "GET /readyz",
        expect![[r#"
        503 text/plain; charset=utf-8
        not ok: the cluster has not been read yet: 10.0.0.1:6379: connection refused; 10.0.0.2:6379: timed out
    "#]],
    )
    .await;

    let now = now();
    let read = |ms: u64| {
        let mut status = Status { look_errors: errors(), ..working(now) };
        status.view.as_mut().unwrap().at = now.instant.checked_sub(Duration::from_millis(ms)).unwrap();
        handlers::readiness(&status, now, POLL)
    };
    assert_eq!(read(14_900), Ok("the cluster was last read 14.9 s ago".to_owned()));
    let why = read(15_000).unwrap_err();
    assert!(
        why.starts_with("the cluster was last read 15.0 s ago, a view is fresh for 15.0 s: 10.0.0.1:6379: "),
        "{why}"
    );
}

#[tokio::test]
async fn without_a_view_or_a_plan_the_reasons_are_told_instead() {
    check(
        starting(Now::read()),
        "GET /api/v1/topology",
        expect![[r#"
        503 application/json
        {
          "error": "the cluster has not been read yet",
          "reasons": [
            {
              "name": "no_view",
              "passes_by_itself": true,
              "text": "the cluster has not been read yet"
            }
          ]
        }
    "#]],
    )
    .await;
    let fault = TargetFault::TargetsInfeasible(Infeasible::Minimums { needed: 20_000, available: 16_384 });
    let status = Status { plan: None, reasons: vec![Reason::Targets(fault)], ..working(Now::read()) };
    check(
        status,
        "GET /api/v1/plan",
        expect![[r#"
        503 application/json
        {
          "error": "there is no plan at present",
          "reasons": [
            {
              "name": "targets_infeasible",
              "passes_by_itself": false,
              "text": "the shards are to hold at least 20000 slots together, but there are 16384"
            }
          ]
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_served_is_what_the_command_line_prints() {
    let status = working(Now::read());
    let view = status.view.clone().unwrap();
    let (_, _, topology) = ask(status.clone(), "GET", "/api/v1/topology").await;
    let expected = json::topology_document(&view.topology, &view.infos);
    assert_eq!(serde_json::from_str::<json::TopologyDocument>(&topology).unwrap(), expected);
    let (_, _, plan) = ask(status.clone(), "GET", "/api/v1/plan").await;
    let expected = json::plan_document(status.plan.as_ref().unwrap());
    assert_eq!(serde_json::from_str::<json::PlanDocument>(&plan).unwrap(), expected);
    let (_, _, told) = ask(status.clone(), "GET", "/api/v1/status").await;
    let told = serde_json::from_str::<json::StatusDocument>(&told).unwrap();
    assert_eq!(told.moves.len(), 1);
    assert!(told.look.age_s.is_some_and(|age| (2.0..60.0).contains(&age)), "{:?}", told.look);
}

#[test]
fn a_port_in_use_is_told_with_its_address_and_what_to_do() {
    let check = |listen: SocketAddr, expect: Expect| {
        let port = listen.port().to_string();
        expect.assert_eq(&bind(listen).unwrap_err().to_string().replace(&port, "PORT"));
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    check(
        taken.local_addr().unwrap(),
        expect![
            "127.0.0.1:PORT is in use: another evenkeel or another program listens there; stop it, or listen elsewhere (http.listen, --listen, EVENKEEL_LISTEN)"
        ],
    );
    // Of the addresses kept for documentation: nobody has it.
    check(
        "192.0.2.1:7380".parse().unwrap(),
        expect![
            "cannot listen at 192.0.2.1:PORT: this machine does not have that address; use one that it has, or 0.0.0.0 for all (http.listen)"
        ],
    );
}

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
