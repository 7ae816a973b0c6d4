//! The API as an `OpenAPI` document, made of the handlers and their documents themselves.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::rate::Limited;
use super::{events, handlers, orders};

/// Where it is served.
pub(super) const PATH: &str = "/api/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "evenkeel",
        description = "What a running evenkeel tells, and what it can be told. `GET` changes nothing. Orders need the daemon's token \
                       where it has one; without, only programs on its own machine are believed. What tells of the cluster \
                       needs the token too where http.reads says so."
    ),
    tags(
        (name = "state", description = "What it knows and does."),
        (name = "orders", description = "What it can be told."),
        (name = "operations", description = "For monitors and orchestrators."),
    ),
    paths(
        handlers::status,
        handlers::topology,
        handlers::plan,
        handlers::history,
        events::events,
        orders::retry,
        orders::pause,
        orders::resume,
        orders::drain,
        orders::undrain,
        orders::approve,
        handlers::metrics,
        handlers::healthz,
        handlers::readyz,
        serve,
    ),
    modifiers(&Token),
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of http.token_file or EVENKEEL_HTTP_TOKEN."))
            .build();
        api.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document.
#[must_use]
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// This description of the API.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", responses((status = OK, body = serde_json::Value), Limited))]
pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect_file;

    use super::*;

    /// `./test openapi` has the file looked over by a validator that shares no code with the one that made it.
    #[test]
    fn the_document_in_docs_is_the_one_that_is_served() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        expect_file!["../../docs/openapi.json"].assert_eq(&text);
    }

    #[test]
    fn whatever_may_be_answered_with_too_many_says_so() {
        for (path, item) in &document().paths.paths {
            let operation = item.post.as_ref().or(item.get.as_ref()).unwrap();
            let exempt = ["/healthz", "/readyz", "/metrics"].contains(&path.as_str());
            assert_eq!(operation.responses.responses.contains_key("429"), !exempt, "{path}");
        }
    }

    #[test]
    fn every_order_is_described_as_a_post_that_takes_a_token_and_all_else_as_a_get() {
        let api = document();
        let posts = api.paths.paths.iter().filter(|(_, item)| item.post.is_some());
        let posts: BTreeSet<&str> = posts.map(|(path, _)| path.as_str()).collect();
        assert_eq!(posts, orders::PATHS.into_iter().collect());
        for (path, item) in &api.paths.paths {
            match &item.post {
                Some(post) => assert!(post.security.is_some() && item.get.is_none(), "{path}"),
                None => assert!(item.get.is_some(), "{path}"),
            }
        }
    }
}
