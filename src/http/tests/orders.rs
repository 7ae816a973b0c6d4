//! What can be told, and who may.

use axum::body::Body;
use axum::http::{Request, header};
use expect_test::{Expect, expect};
use tower::ServiceExt;

use super::{answer, answer_guarded, assert_answer, check, guard, local, routes};
use crate::clock::Now;
use crate::http::{Guard, Scheme};
use crate::metrics::testing::working;

/// Posts this body, announced as this kind, to a daemon that has set slot 5 aside.
async fn check_post(path: &str, kind: &str, body: &'static str, expect: Expect) {
    let request = Request::builder().method("POST").uri(path).header(header::HOST, "127.0.0.1:7380");
    let request = request.header(header::CONTENT_TYPE, kind);
    assert_answer(answer(working(Now::read()), request.body(Body::from(body)).unwrap()).await, expect);
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
        (&[here, ("via", "1.1 edge")], "nothing is taken from a proxy"),
        (&[here, ("x-real-ip", "10.0.0.9")], "nothing is taken from a proxy"),
        (&[here, ("origin", "http://evil.example")], "no page of another server"),
        (&[here, ("origin", "null")], "no page of another server"),
        (&[here, ("origin", "http://localhost:8080")], "no page of another server"),
        (&[here, ("origin", "\u{e9}")], "no page of another server"),
    ];
    for (headers, says) in refused {
        let (code, error) = told(local(), headers).await;
        assert!(code == 403 && error.contains(says), "{headers:?}: {code} {error}");
    }
    // Over TLS our own page says so, and one that does not is another's.
    let secure = || Guard { scheme: Scheme::Https, ..local() };
    assert_eq!(told(secure(), &[here, ("origin", "https://localhost:7380")]).await, (200, String::new()));
    for (guard, origin) in [(secure(), "http://localhost:7380"), (local(), "https://localhost:7380")] {
        let (code, error) = told(guard, &[here, ("origin", origin)]).await;
        assert!(code == 403 && error.contains("no page of another server"), "{origin}: {code} {error}");
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
    std::fs::write(&file, "  \n").unwrap();
    for nothing in ["Bearer ", "Bearer   "] {
        assert_eq!(told(guard(), &shown(nothing)).await.0, 401, "a file of spaces lets nobody in");
    }
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
async fn a_node_is_drained_by_any_of_its_names() {
    const NODE: &str = r#"{"node": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
    let json = "application/json";
    check_post(
        "/api/v1/drain",
        json,
        NODE,
        expect![[r#"
            200 application/json
            {
              "drained": {
                "address": null,
                "node": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "replica_of": null,
                "since": "2027-01-15T08:00:00.000Z"
              },
              "survives_restart": true
            }
        "#]],
    )
    .await;
    check_post(
        "/api/v1/drain",
        json,
        r#"{"node": "nowhere.example"}"#,
        expect![[r#"
        404 application/json
        {
          "error": "target `nowhere.example` matches no node of the cluster; one is named by its id, 8 digits or more of it, host:port, or the hostname that it announces"
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/drain",
        json,
        "{}",
        expect![[r#"
        422 application/json
        {
          "error": "Failed to deserialize the JSON body into the target type: missing field `node` at line 1 column 2"
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/undrain",
        json,
        NODE,
        expect![[r#"
        200 application/json
        {
          "by_configuration": true,
          "returns_at_restart": false,
          "was_drained": null
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_plan_is_approved_as_it_was_looked_at_or_not_at_all() {
    let json = "application/json";
    check_post(
        "/api/v1/approve",
        json,
        r#"{"hash": "0123456789ab"}"#,
        expect![[r#"
        200 application/json
        {
          "hash": "0123456789ab",
          "slots": {
            "count": 16384,
            "ranges": "0-16383"
          }
        }
    "#]],
    )
    .await;
    check_post(
        "/api/v1/approve",
        json,
        r#"{"hash": "ba9876543210"}"#,
        expect![[r#"
        409 application/json
        {
          "error": "the plan of now has the hash 0123456789ab: look at it, and approve that"
        }
    "#]],
    )
    .await;
}

#[tokio::test]
async fn orders_that_come_too_fast_are_refused_and_reading_goes_on() {
    let router = routes(working(Now::read()), local());
    let ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:7380");
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(ask("POST", "/api/v1/resume").await.status().as_u16());
    }
    assert!(codes[..10].iter().all(|code| *code == 200), "{codes:?}");
    assert!(codes.contains(&429), "{codes:?}");
    assert_eq!(ask("GET", "/api/v1/status").await.status(), 200);
}
