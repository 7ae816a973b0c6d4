//! TLS at our own address: the handshakes, and certificates that change under them.
//!
//! Whoever connects and says nothing holds up nobody: handshakes run beside each other, each for a limited time. A
//! certificate is shown to whoever connects after it was read; connections that there are keep theirs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::json::ErrorDocument;
use crate::config::ServerTlsFiles;
use crate::daemon::Files;
use crate::tls::server_config;

/// How long a handshake may take: two round trips, far away, on a machine at work.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at once. Who comes then waits in the system's queue, for as long as one takes at the most.
const HANDSHAKES: usize = 256;
/// How a client's first message begins in TLS: a record of a handshake. No method of HTTP does.
const RECORD_OF_HANDSHAKE: u8 = 0x16;

/// The certificate of our own address, as last read.
#[derive(Clone)]
pub struct Tls {
    files: ServerTlsFiles,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// A certificate that cannot be shown.
#[derive(Debug, Error)]
#[error("https cannot be served (http.tls): {0}")]
pub struct TlsError(String);

impl Tls {
    /// Reads the files.
    pub fn read(files: ServerTlsFiles) -> Result<Self, TlsError> {
        let config = server_config(&files).map_err(TlsError)?;
        Ok(Self { files, config: watch::Sender::new(Arc::new(config)) })
    }

    /// Reads the files again whenever they have changed, for ever. Those that cannot be used change nothing.
    pub async fn renew(&self, mut files: watch::Receiver<Files>) {
        let mut changes = files.borrow_and_update().served_changes;
        while files.changed().await.is_ok() {
            let now = files.borrow_and_update().served_changes;
            if now == changes {
                continue;
            }
            changes = now;
            match server_config(&self.files) {
                Ok(config) => {
                    self.config.send_replace(Arc::new(config));
                    info!(file = %self.files.cert_file.display(), "https shows the certificate as it is now");
                }
                Err(why) => warn!(why, "https goes on to show the certificate that it had"),
            }
        }
    }

    /// Makes connections of a listener's those of TLS.
    pub(super) fn listener(&self, listener: TcpListener) -> TlsListener {
        TlsListener { listener, config: self.config.subscribe(), handshakes: JoinSet::new() }
    }
}

/// Gives connections whose handshake is done. What is in the middle of one ends with it.
pub(super) struct TlsListener {
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    handshakes: JoinSet<Option<Secured>>,
}

type Secured = (TlsStream<TcpStream>, SocketAddr);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Secured {
        loop {
            let room = self.handshakes.len() < HANDSHAKES;
            tokio::select! {
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(secured)) = ended {
                        return secured;
                    }
                }
                (stream, from) = Listener::accept(&mut self.listener), if room => {
                    let acceptor = TlsAcceptor::from(Arc::clone(&self.config.borrow()));
                    self.handshakes.spawn(handshake(acceptor, stream, from));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn handshake(acceptor: TlsAcceptor, mut stream: TcpStream, from: SocketAddr) -> Option<Secured> {
    let secured = tokio::time::timeout(HANDSHAKE_MAX, async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != RECORD_OF_HANDSHAKE {
            refuse(&mut stream).await?;
            return Err(io::Error::other("it does not speak TLS"));
        }
        acceptor.accept(stream).await
    });
    match secured.await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(stream) => Some((stream, from)),
        Err(error) => {
            debug!(%from, %error, "a connection did not come as far as TLS");
            None
        }
    }
}

/// Tells a client that speaks plain HTTP what to do, in its own language, and reads nothing of what it wants.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let error = "https is spoken here: ask with https:// in place of http://".to_owned();
    let body = serde_json::to_string(&ErrorDocument { error, reasons: Vec::new() }).expect("a document of texts only");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // What is not read makes the system take the answer back, from a client that has not read it yet.
    let _ = stream.read(&mut [0; 4096]).await?;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
