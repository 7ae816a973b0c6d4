//! Asking a running daemon, and telling it something, over HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::cli::{DaemonArgs, UsageError};
use crate::config::TokenSource;
use crate::http::json::ErrorDocument;
use crate::tls;

/// How long one answer may take: longer than the daemon itself takes to give up on its supervisor.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A running daemon, by the address at which it serves HTTP.
#[derive(Clone)]
pub(super) struct Remote {
    agent: ureq::Agent,
    url: String,
    ca_file: Option<PathBuf>,
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
    /// The daemon at this address. Nothing is sent yet. Fails where the authorities cannot be read that https needs.
    pub(super) fn new(daemon: &DaemonArgs) -> anyhow::Result<Self> {
        let https = daemon.url.starts_with("https://");
        if https && daemon.ca_file.is_none() {
            return Err(UsageError::NobodyToTrust { url: daemon.url.clone() }.into());
        }
        // The variable may be there for another daemon.
        let ca_file = daemon.ca_file.clone().filter(|_| https);
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_WITHIN));
        // Container engines hand their HTTP_PROXY to every container, and no proxy reaches 127.0.0.1 of this one.
        let agent = agent.proxy(None).tls_config(trust(ca_file.as_deref())?);
        Ok(Self {
            agent: agent.build().new_agent(),
            url: daemon.url.clone(),
            ca_file,
            token: TokenSource::of_file_or_environment(daemon.token_file.clone()),
        })
    }

    /// The document at a path.
    pub(super) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
    ) -> anyhow::Result<Answer<T>> {
        let token = self.shown()?;
        let shown = token.is_some();
        let call = move |agent: &ureq::Agent, url: &str| {
            let get = agent.get(url);
            if let Some(token) = token { get.header("Authorization", token) } else { get }.call()
        };
        self.ask(path, shown, call).await
    }

    /// What the daemon says of its own health, in a line; an error unless it is well.
    pub(super) async fn health(&self) -> anyhow::Result<String> {
        let (agent, url, ca_file) = (self.agent.clone(), format!("{}/healthz", self.url), self.ca_file.clone());
        let asked = move || {
            let no_answer = |error| no_answer(&url, ca_file.as_deref(), error);
            let mut response = agent.get(&url).call().map_err(no_answer)?;
            let text = response.body_mut().read_to_string().map_err(no_answer)?;
            if let Ok(told) = serde_json::from_str::<ErrorDocument>(&text) {
                bail!("{url} answered: {}", told.error);
            }
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
        let token = self.shown()?;
        let shown = token.is_some();
        let call = move |agent: &ureq::Agent, url: &str| {
            let post = agent.post(url);
            let post = if let Some(token) = token { post.header("Authorization", token) } else { post };
            post.send_json(&document)
        };
        self.ask(path, shown, call).await
    }

    /// What is shown to be believed; `None` where no token is named.
    fn shown(&self) -> anyhow::Result<Option<String>> {
        Ok(self.token.token()?.map(|token| format!("Bearer {}", token.expose_secret())))
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        shown: bool,
        call: impl FnOnce(&ureq::Agent, &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> anyhow::Result<Answer<T>> {
        let (agent, url, ca_file) = (self.agent.clone(), format!("{}{path}", self.url), self.ca_file.clone());
        let asked = move || {
            let mut response = call(&agent, &url).map_err(|error| no_answer(&url, ca_file.as_deref(), error))?;
            let status = response.status();
            let not_evenkeel = || not_evenkeel(&url, status);
            if status == ureq::http::StatusCode::UNAUTHORIZED {
                bail!("{}", no_token(&url, shown));
            }
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
            Self::None(error) => bail!("the daemon answered: {}", error.error),
        }
    }
}

/// Whom to trust: the authorities in the file, and without one nobody.
fn trust(ca_file: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let authorities = ca_file.map(tls::certificates).transpose().map_err(|why| anyhow!(why)).context("--ca-file")?;
    let authorities = authorities.into_iter().flatten();
    let roots = authorities.map(|authority| Certificate::from_der(&authority).to_owned());
    let config = TlsConfig::builder().root_certs(RootCerts::from(roots));
    Ok(config.unversioned_rustls_crypto_provider(tls::provider()).build())
}

/// What went wrong; where that is TLS, with what it means.
fn no_answer(url: &str, ca_file: Option<&Path>, error: ureq::Error) -> anyhow::Error {
    let meaning = if is_refused(&error) {
        " (--url, or EVENKEEL_URL, is where the daemon listens: its http.listen)".to_owned()
    } else {
        of_tls(&error).and_then(|fault| meaning(fault, ca_file)).unwrap_or_default()
    };
    anyhow::Error::new(error).context(format!("no answer from {url}{meaning}"))
}

fn is_refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn of_tls(error: &ureq::Error) -> Option<&rustls::Error> {
    let ureq::Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref()
}

fn meaning(fault: &rustls::Error, ca_file: Option<&Path>) -> Option<String> {
    if let (rustls::Error::InvalidCertificate(_), Some(file)) = (fault, ca_file) {
        let file = file.display();
        return Some(format!(": its certificate is not one for this address by the authorities of {file} (--ca-file)"));
    }
    let plain = matches!(fault, rustls::Error::InvalidMessage(_));
    plain.then(|| ": it does not speak TLS (is http.tls configured there?)".to_owned())
}

/// What to do where a daemon does not take the token that was shown, or wants one.
fn no_token(url: &str, shown: bool) -> String {
    let why = if shown { "it is not the daemon's token" } else { "the daemon asks for its token" };
    format!(
        "{url} is closed: {why}; name the file that holds it (its http.token_file) with --token-file, or set \
         EVENKEEL_HTTP_TOKEN"
    )
}

fn not_evenkeel(url: &str, status: ureq::http::StatusCode) -> String {
    format!("{url} answered {status}, and not as evenkeel does; is it another program?")
}

/// The start of a node's id, by which people know it.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is made of this answer to a question for the health.
    async fn check(status: &str, body: &str, expect: Result<&str, &str>) {
        check_asked(("http", None), status, body, expect).await;
    }

    async fn check_asked(
        (scheme, ca_file): (&str, Option<&Path>),
        status: &str,
        body: &str,
        expect: Result<&str, &str>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let serving = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let read = connection.read(&mut [0; 4096]).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            read
        });
        let (url, ca_file) = (format!("{scheme}://{host}"), ca_file.map(Path::to_owned));
        let remote = Remote::new(&DaemonArgs { url, ca_file, token_file: None }).unwrap();
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

    #[tokio::test]
    async fn a_daemon_that_speaks_tls_and_one_that_does_not_are_told_apart() {
        let told = r#"{"error": "https is spoken here"}"#;
        check("400 Bad Request", told, Err("http://HOST/healthz answered: https is spoken here")).await;

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        std::fs::write(&file, authority.cert.pem()).unwrap();
        let plain = "no answer from https://HOST/healthz: it does not speak TLS (is http.tls configured there?): \
                     io: received corrupt message of type InvalidContentType";
        check_asked(("https", Some(&file)), "200 OK", "ok: it lives", Err(plain)).await;
    }

    #[test]
    fn https_needs_somebody_to_trust_and_http_nobody() {
        let remote = |url: &str, ca_file: Option<&str>| {
            let ca_file = ca_file.map(PathBuf::from);
            let remote = Remote::new(&DaemonArgs { url: url.to_owned(), ca_file, token_file: None });
            remote.map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let nobody = remote("https://a:1", None).unwrap_err();
        assert!(nobody.contains("--ca-file") && nobody.contains("EVENKEEL_CA_FILE"), "{nobody}");
        let absent = remote("https://a:1", Some("/absent/ca.pem")).unwrap_err();
        assert!(absent.starts_with("--ca-file: /absent/ca.pem: "), "{absent}");
        assert_eq!(remote("http://a:1", Some("/absent/ca.pem")), Ok(()));
    }
}
