//! Who may read what it tells.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, header};

use super::{answer_guarded, ask, guard};
use crate::clock::Now;
use crate::config::Reads;
use crate::http::Guard;
use crate::metrics::testing::working;

const CLOSED: [&str; 6] =
    ["/metrics", "/api/v1/status", "/api/v1/topology", "/api/v1/plan", "/api/v1/history", "/api/v1/events"];

/// The status code, and the body where that is not a stream, of what a daemon answers that wants its token for reads.
async fn read(path: &str, token_file: Option<&Path>, shown: Option<&str>) -> (u16, String) {
    let mut request = Request::get(path).header(header::HOST, "127.0.0.1:7380");
    if let Some(shown) = shown {
        request = request.header(header::AUTHORIZATION, format!("Bearer {shown}"));
    }
    let guard = Guard { reads: Reads::Token, ..guard("127.0.0.1:7380", token_file) };
    let (code, _, body) = answer_guarded(working(Now::read()), guard, request.body(Body::empty()).unwrap()).await;
    (code, body)
}

#[tokio::test]
async fn what_tells_of_the_cluster_is_closed_to_whoever_does_not_show_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    for path in CLOSED {
        for shown in [None, Some("guess")] {
            let (code, body) = read(path, Some(&file), shown).await;
            assert!(code == 401 && body.contains("http.token_file"), "{path}, {shown:?}: {code} {body}");
        }
        let (code, body) = read(path, None, Some("")).await;
        assert!(code == 403 && body.contains("there is no token"), "{path}: {code} {body}");
        // A stream does not end.
        if path != "/api/v1/events" {
            assert_eq!(read(path, Some(&file), Some("s3cret")).await.0, 200, "{path}");
            assert_eq!(
                ask(working(Now::read()), "GET", path).await.0,
                200,
                "{path} is open unless it is said otherwise"
            );
        }
    }
    for path in ["/", "/page.css", "/page.js", "/healthz", "/readyz", "/api/v1/openapi.json"] {
        let (code, body) = read(path, Some(&file), None).await;
        assert!(code == 200 && !body.contains("cache-eu"), "{path}: {code} {body}");
    }
}
