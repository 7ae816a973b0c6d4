//! Who may tell the daemon something, and who may read what it tells.
//!
//! Whoever reaches it may read, or whoever shows the token, as configured. For orders:
//!
//! With a token: whoever shows it. Without: programs of this machine, and no page in a browser on it that somebody
//! else's server sent there. Such a page can send to a loopback address, also under a name of its own that it had
//! resolved to it, but neither hide that name in `Host` nor leave out where it comes from in `Origin`. A proxy on this
//! machine that says nothing of itself cannot be told from a program: in front of one there must be a token.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, VIA, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tracing::error;
use utoipa::IntoResponses;

use super::handlers::failure;
use super::json::ErrorDocument;
use crate::config::{Reads, TokenSource};

/// What decides who may.
#[derive(Clone)]
pub struct Guard {
    /// Where we listen.
    pub listen: SocketAddr,
    /// How: a page of our own says where it comes from with this scheme.
    pub scheme: Scheme,
    /// The token, if one is configured.
    pub token: TokenSource,
    /// Who may read.
    pub reads: Reads,
}

/// What is answered to whoever may not read, where the token is needed for it.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) enum Closed {
    /// The token is needed, and was not shown (`http.reads = "token"`).
    #[response(status = UNAUTHORIZED)]
    NoToken(ErrorDocument),
}

/// What is spoken at our address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP as it is.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As URLs begin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Lets those requests through that may tell the daemon something.
pub(super) async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let judged = guard.judge(request.headers(), |headers| judge_origin(&guard, headers));
    answer(judged, request, next).await
}

/// Lets those requests through that may read.
pub(super) async fn admit_reader(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let judged = match guard.reads {
        Reads::Open => Ok(()),
        Reads::Token => {
            let nobody = (StatusCode::FORBIDDEN, "http.reads is \"token\", and there is no token");
            guard.judge(request.headers(), |_| Err(nobody))
        }
    };
    answer(judged, request, next).await
}

async fn answer(judged: Judged, request: Request, next: Next) -> Response {
    match judged {
        Ok(()) => next.run(request).await,
        Err((code, why)) => {
            let mut response = failure(code, why.to_owned());
            if code == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

type Judged = Result<(), (StatusCode, &'static str)>;

impl Guard {
    /// By the token that is shown; by the rest of the headers where none is configured.
    fn judge(&self, headers: &HeaderMap, without: impl FnOnce(&HeaderMap) -> Judged) -> Judged {
        // A small local file: nothing that would hold the others up.
        match self.token.token() {
            Ok(Some(token)) => judge_token(headers, &token),
            Ok(None) => without(headers),
            Err(why) => {
                error!(error = %why, "nobody is believed who shows a token");
                let text = "the token cannot be read, so nobody is believed; the log says why";
                Err((StatusCode::SERVICE_UNAVAILABLE, text))
            }
        }
    }
}

fn judge_token(headers: &HeaderMap, token: &SecretString) -> Judged {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.expose_secret().trim();
    // A file of nothing but spaces holds no token, and lets nobody in.
    let right = |shown: &str| !token.is_empty() && bool::from(shown.trim().as_bytes().ct_eq(token.as_bytes()));
    match shown {
        Some(shown) if right(shown) => Ok(()),
        Some(_) => Err((StatusCode::UNAUTHORIZED, "this is not the token of http.token_file or EVENKEEL_HTTP_TOKEN")),
        None => Err((
            StatusCode::UNAUTHORIZED,
            "show the token of http.token_file or EVENKEEL_HTTP_TOKEN: Authorization: Bearer TOKEN",
        )),
    }
}

fn judge_origin(guard: &Guard, headers: &HeaderMap) -> Judged {
    let refused = |why| Err((StatusCode::FORBIDDEN, why));
    if !guard.listen.ip().is_loopback() {
        return refused(
            "evenkeel listens beyond this machine and has no token: set http.token_file or EVENKEEL_HTTP_TOKEN",
        );
    }
    let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = text(headers.get(HOST)).unwrap_or_default();
    if !names_loopback(&host) {
        return refused("without a token, Host must be a loopback address or localhost");
    }
    let of_proxies = |name: &HeaderName| *name == FORWARDED || *name == VIA || name.as_str() == "x-real-ip";
    let forwarded = headers.keys().any(|name| of_proxies(name) || name.as_str().starts_with("x-forwarded-"));
    if forwarded {
        return refused("without a token, nothing is taken from a proxy: set http.token_file or EVENKEEL_HTTP_TOKEN");
    }
    let ours = format!("{}://{host}", guard.scheme.name());
    if headers.contains_key(ORIGIN) && text(headers.get(ORIGIN)).as_ref() != Some(&ours) {
        return refused("without a token, no page of another server may tell evenkeel anything");
    }
    Ok(())
}

/// Whether a `Host` names this machine whoever resolves it; the port does not matter.
fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_this_machine_under_every_name_that_it_has_everywhere() {
        for host in ["localhost", "LocalHost:7380", "127.0.0.1", "127.0.0.5:80", "[::1]", "[::1]:7380"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["", "localhost.evil.example", "127.0.0.1.evil.example:7380", "10.0.0.1", "[::2]:7380", "evil", ":80"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
