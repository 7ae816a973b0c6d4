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
            let not_evenkeel = || format!("{url} answered {status}, and not as evenkeel does; is it another program?");
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
