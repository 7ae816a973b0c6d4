//! What every path answers to whoever reads.

mod orders;
mod reads;
mod serving;

use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use expect_test::{Expect, expect};
use tower::ServiceExt;

use super::*;
use crate::clock::Now;
use crate::config::{Reads, TokenSource};
use crate::daemon::{Reason, obeying};
use crate::metrics::testing::{now, starting, working};
use crate::plan::{Infeasible, TargetFault};

const POLL: Duration = Duration::from_secs(5);

fn routes(status: Status, guard: Guard) -> Router {
    routes_with(status, guard, Streams::new(CancellationToken::new()))
}

fn routes_with(status: Status, guard: Guard, streams: Streams) -> Router {
    // A receiver gives the last value even when its sender is gone, as it is at the end of the process.
    let (_, status) = watch::channel(Arc::new(status));
    let metrics = Arc::new(Metrics::new("cache-eu").unwrap());
    let commands = obeying(&"5".parse().unwrap(), now().wall);
    router(AppState { status, metrics, commands, guard, streams, poll: Arc::new(|| POLL) })
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
    Guard {
        listen: listen.parse().unwrap(),
        scheme: Scheme::Http,
        token: TokenSource::of_file(token_file.map(Path::to_owned)),
        reads: Reads::Open,
    }
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

#[track_caller]
fn assert_answer((code, kind, body): (u16, String, String), expect: Expect) {
    let body = match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(json) => serde_json::to_string_pretty(&json).unwrap() + "\n",
        Err(_) => body,
    };
    expect.assert_eq(&format!("{code} {kind}\n{body}"));
}

/// Status code and type of the content, without the content.
async fn kind_of(path: &str, accept: &str) -> (u16, String) {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let response = routes(working(Now::read()), local()).oneshot(request).await.unwrap();
    (response.status().as_u16(), response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn programs_are_told_every_path() {
    let (code, kind, page) = ask(starting(Now::read()), "GET", "/").await;
    assert_eq!((code, kind.as_str()), (200, "text/plain; charset=utf-8"));
    let tells = page.split("To tell it something").next().unwrap();
    for path in tells.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| word.starts_with('/')) {
        assert_eq!(kind_of(path, "*/*").await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn browsers_get_a_page_whose_parts_are_all_here() {
    let html = "text/html,application/xhtml+xml,*/*;q=0.8";
    assert_eq!(kind_of("/", html).await, (200, "text/html; charset=utf-8".to_owned()));
    assert_eq!(kind_of("/page.css", "text/css").await, (200, "text/css; charset=utf-8".to_owned()));
    assert_eq!(kind_of("/page.js", "*/*").await, (200, "text/javascript; charset=utf-8".to_owned()));
    let request = Request::get("/").header(header::ACCEPT, html).body(Body::empty()).unwrap();
    let (_, _, page) = answer(working(Now::read()), request).await;
    let named = page.split(['"', '\'']).filter(|text| text.starts_with("http") || text.starts_with("//"));
    let elsewhere: Vec<&str> = named.filter(|text| !text.starts_with("http://www.w3.org/")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[tokio::test]
async fn the_history_is_told_newest_first_and_as_much_as_is_asked_for() {
    check(
        working(now()),
        "GET /api/v1/history?limit=1",
        expect![[r#"
            200 application/json
            {
              "moves": [
                {
                  "bytes_estimated": 123400,
                  "ended_at": "2027-01-15T07:59:00.000Z",
                  "keys_moved": 1234,
                  "outcome": "left",
                  "slots": {
                    "count": 1,
                    "ranges": "100"
                  },
                  "source": "0000000200000000000000000000000000000000",
                  "target": "0000000300000000000000000000000000000000",
                  "took_s": 1.5,
                  "trouble": "the target is full",
                  "why": "resume"
                }
              ]
            }
        "#]],
    )
    .await;
    check(
        working(now()),
        "GET /api/v1/history?limit=all",
        expect![[r#"
        400 application/json
        {
          "error": "Failed to deserialize query string: limit: invalid digit found in string"
        }
    "#]],
    )
    .await;
    let (_, _, all) = ask(working(Now::read()), "GET", "/api/v1/history").await;
    assert_eq!(serde_json::from_str::<json::HistoryDocument>(&all).unwrap().moves.len(), 2);
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
