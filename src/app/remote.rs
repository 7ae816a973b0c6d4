//! Asking a running daemon, and telling it something, over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::DaemonArgs;
use crate::config::TokenSource;
use crate::http::json::ErrorDocument;

/// How long one answer may take: longer than the daemon itself takes to give up on its supervisor.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A running daemon, by the address at which it serves HTTP.
#[derive(Clone)]
pub(super) struct Remote {
    agent: ureq::Agent,
    url: String,
    token: TokenSource,
}

/// What a path answered.
pub(super) enum Answer<T> {
    /// The document.
    Document(T),
    /// There is none at present; it says why.
    None(ErrorDocument),
}

impl Remote {
    /// The daemon at this address. Nothing is sent yet.
    pub(super) fn new(daemon: &DaemonArgs) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_WITHIN));
        // Container engines hand their HTTP_PROXY to every container, and no proxy reaches 127.0.0.1 of this one.
        let agent = agent.proxy(None);
        Self {
            agent: agent.build().new_agent(),
            url: daemon.url.clone(),
            token: TokenSource::of_file_or_environment(daemon.token_file.clone()),
        }
    }

    /// The document at a path.
    pub(super) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
    ) -> anyhow::Result<Answer<T>> {
        self.ask(path, |agent, url| agent.get(url).call()).await
    }

    /// What the daemon says of its own health, in a line; an error unless it is well.
    pub(super) async fn health(&self) -> anyhow::Result<String> {
        let (agent, url) = (self.agent.clone(), format!("{}/healthz", self.url));
        let asked = move || {
            let no_answer = || format!("no answer from {url}");
            let mut response = agent.get(&url).call().with_context(no_answer)?;
            let text = response.body_mut().read_to_string().with_context(no_answer)?;
            match text.lines().next() {
                Some(line) if line.starts_with("ok: ") && response.status().is_success() => Ok(line.to_owned()),
                Some(line) if line.starts_with("not ok: ") => bail!("{url} answered: {line}"),
                Some(_) | None => bail!("{}", not_evenkeel(&url, response.status())),
            }
        };
        tokio::task::spawn_blocking(asked).await.context("the call ended by a bug")?
    }

    /// The answer to a document that is sent to a path.
    pub(super) async fn post<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        document: impl Serialize + Send + 'static,
    ) -> anyhow::Result<Answer<T>> {
        let token = self.token.token()?.map(|token| format!("Bearer {}", token.expose_secret()));
        let call = move |agent: &ureq::Agent, url: &str| {
            let post = agent.post(url);
            let post = if let Some(token) = token { post.header("Authorization", token) } else { post };
            post.send_json(&document)
        };
        self.ask(path, call).await
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        call: impl FnOnce(&ureq::Agent, &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> anyhow::Result<Answer<T>> {
        let (agent, url) = (self.agent.clone(), format!("{}{path}", self.url));
        let asked = move || {
            let mut response = call(&agent, &url).with_context(|| format!("no answer from {url}"))?;
            let status = response.status();
            let not_evenkeel = || not_evenkeel(&url, status);
            if status.is_success() {
                return response.body_mut().read_json().map(Answer::Document).with_context(not_evenkeel);
            }
            response.body_mut().read_json().map(Answer::None).with_context(not_evenkeel)
        };
        tokio::task::spawn_blocking(asked).await.context("the call ended by a bug")?
    }
}

impl<T> Answer<T> {
    /// The document; the daemon's own words as an error where it has none.
    pub(super) fn document(self) -> anyhow::Result<T> {
        match self {
            Self::Document(document) => Ok(document),
            Self::None(error) => bail!("evenkeel answered: {}", error.error),
        }
    }
}

fn not_evenkeel(url: &str, status: ureq::http::StatusCode) -> String {
    format!("{url} answered {status}, and not as evenkeel does; is it another program?")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is made of this answer to a question for the health.
    async fn check(status: &str, body: &str, expect: Result<&str, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let serving = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let read = connection.read(&mut [0; 4096]).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            read
        });
        let remote = Remote::new(&DaemonArgs { url: format!("http://{host}"), token_file: None });
        let health = remote.health().await.map_err(|error| format!("{error:#}").replace(&host, "HOST"));
        assert!(serving.join().unwrap() > 0);
        assert_eq!(health.as_deref().map_err(String::as_str), expect);
    }

    #[tokio::test]
    async fn only_a_daemon_that_says_so_is_well() {
        check("200 OK", "ok: the supervisor turned 0.1 s ago\n", Ok("ok: the supervisor turned 0.1 s ago")).await;
        let stuck = "not ok: the supervisor turned 15.0 s ago; it should every 5.0 s\n";
        let told = "http://HOST/healthz answered: not ok: the supervisor turned 15.0 s ago; it should every 5.0 s";
        check("503 Service Unavailable", stuck, Err(told)).await;
        let other = "http://HOST/healthz answered 200 OK, and not as evenkeel does; is it another program?";
        check("200 OK", "<html>", Err(other)).await;
        check("200 OK", "", Err(other)).await;
    }
}
