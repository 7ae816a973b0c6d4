//! The page for people: one document, its style and its script, all out of this program.

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Nothing from anywhere else, and no frame around it in which a click could be stolen.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What there is to read, for programs and terminals.
const INDEX: &str = "\
evenkeel keeps a Redis or Valkey Cluster on an even keel. A browser shows more of it here.

/api/v1/status    what runs, how far it has come, and why nothing (more) is moved
/api/v1/topology  shards, slots, open slots, findings
/api/v1/plan      what is to move, and why
/api/v1/history   moves that ended, newest first; ?limit=20
/api/v1/events    all of these as they change, as server-sent events
/api/v1/openapi.json  all of this for programs that write programs
/metrics          Prometheus
/healthz          200 while the supervisor turns
/readyz           200 while the view of the cluster is fresh

To tell it something: POST with JSON.
/api/v1/retry     {\"slots\": \"866,900-910\"}: slots that were set aside are tried again
/api/v1/pause     {\"for_s\": 3600}, or {}: open slots are finished, nothing new is begun
/api/v1/resume    {}: it goes on
/api/v1/drain     {\"node\": \"10.0.0.7:6379\"}: all slots go away from that node's shard
/api/v1/undrain   the same: it is to have its share again
/api/v1/approve   {\"hash\": \"0123456789ab\"}: the plan with this hash is carried out
";

/// The page for whoever asks for HTML, as browsers do; for everybody else the paths.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let html = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|text| text.contains("text/html"));
    let (kind, text) = if html { ("text/html; charset=utf-8", PAGE) } else { ("text/plain; charset=utf-8", INDEX) };
    let headers: [(HeaderName, &str); 3] = [(CONTENT_TYPE, kind), (VARY, "accept"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

pub(super) async fn style() -> Response {
    part("text/css; charset=utf-8", STYLE)
}

pub(super) async fn script() -> Response {
    part("text/javascript; charset=utf-8", SCRIPT)
}

/// Asked for anew with every page: they change with the program, under the same name.
fn part(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::Limit;

    #[test]
    fn the_page_has_words_for_every_limit() {
        let (_, after) = SCRIPT.split_once("const LIMITS = {").expect("the script has a table of them");
        let (table, _) = after.split_once("};").expect("which ends");
        let names =
            table.split(['{', ',', '\n']).filter_map(|entry| entry.split_once(": \"")).map(|(name, _)| name.trim());
        let mut named: Vec<&str> = names.collect();
        let mut limits = Limit::ALL.map(Limit::name);
        named.sort_unstable();
        limits.sort_unstable();
        assert_eq!(named, limits);
    }
}
