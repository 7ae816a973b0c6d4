//! A bare connection: one command at a time, in RESP2, without a task and without memory between the calls.
//!
//! For looking at the cluster, which has a connection to every node open for as long as it runs. Those of the client library
//! take 70 KiB each, and as much again as the longest reply: at a thousand nodes, hundreds of megabytes. What is not here:
//! anything that the commands which change something need of the library (many calls on their way at once, transactions).

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use fred::socket2::{SockRef, TcpKeepalive};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Value;
use crate::cluster::Address;

/// What is read at once of a reply, and given back after it.
const CHUNK: usize = 16 * 1024;
/// Longer strings are no replies of a server: the view of a thousand nodes has a hundred thousand bytes.
const LONGEST: usize = 64 * 1024 * 1024;
/// Lists in lists: the replies that we ask for have three.
const DEEPEST: usize = 8;
/// How long a connection is silent before the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A reply, or the server's error line.
pub(super) type Reply = Result<Value, String>;

/// A connection without a login. After anything but an orderly reply it is closed for good.
pub(super) struct Wire {
    /// Taken for the time of a call, so that one that is given up leaves no half of a reply for the next.
    stream: Mutex<Option<Box<dyn Stream>>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Wire {
    /// Connects; the error is for people. TLS verifies `name`.
    pub(super) async fn connect(address: &Address, tls: Option<(TlsConnector, &str)>) -> Result<Self, String> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(told)?;
        tcp.set_nodelay(true).map_err(told)?;
        SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)).map_err(told)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                let name = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
                Box::new(connector.connect(name, tcp).await.map_err(told)?)
            }
        };
        Ok(Self { stream: Mutex::new(Some(stream)) })
    }

    /// Sends a command and reads its reply. Calls at the same time wait for each other. The error says why there is none.
    pub(super) async fn call(&self, command: &str, args: &[Bytes], timeout: Duration) -> Result<Reply, String> {
        let mut place = self.stream.lock().await;
        let mut stream = place.take().ok_or_else(|| "the connection was closed after an earlier failure".to_owned())?;
        let exchange = async {
            stream.write_all(&request(command, args)).await?;
            stream.flush().await?;
            read(&mut BufReader::with_capacity(CHUNK, &mut stream)).await
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(reply)) => {
                *place = Some(stream);
                Ok(reply)
            }
            Ok(Err(error)) => Err(told(error)),
            Err(_) => Err(format!("no answer within {timeout:?}")),
        }
    }

    /// Whether the other end has closed it, or we have. What is in use is not.
    pub(super) fn is_closed(&self) -> bool {
        let Ok(place) = self.stream.try_lock() else { return false };
        let Some(stream) = &*place else { return true };
        // Nothing is read: with TLS there may be messages that are not ours to see.
        match stream.tcp().peek(&mut [0]).now_or_never() {
            None => false,
            Some(Ok(bytes)) => bytes == 0,
            Some(Err(_)) => true,
        }
    }

    /// Ends it; a call that is on its way is not waited for.
    pub(super) fn close(&self) {
        if let Ok(mut place) = self.stream.try_lock() {
            place.take();
        }
    }
}

/// An error of the connection, with TLS' own words for it: as the client library has them.
fn told(error: io::Error) -> String {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    of_tls.map_or_else(|| error.to_string(), |error| format!("{error:?}"))
}

fn request(command: &str, args: &[Bytes]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", args.len() + 1).into_bytes();
    for word in std::iter::once(command.as_bytes()).chain(args.iter().map(AsRef::as_ref)) {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// Reads one reply, behind which nothing may stand.
async fn read<R: AsyncRead + Send + Unpin>(reader: &mut BufReader<R>) -> io::Result<Reply> {
    let reply = read_value(reader, 0).await?;
    if reader.buffer().is_empty() { Ok(reply) } else { Err(broken("more than the reply to one command")) }
}

fn read_value<R: AsyncBufRead + Send + Unpin>(reader: &mut R, depth: usize) -> BoxFuture<'_, io::Result<Reply>> {
    async move {
        let line = read_line(reader).await?;
        let (&kind, rest) = line.split_first().ok_or_else(|| broken("an empty line"))?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        match kind {
            b'+' => Ok(Ok(Value::Bytes(Bytes::copy_from_slice(rest)))),
            b'-' => Ok(Err(text())),
            b':' => Ok(Ok(Value::Integer(number(rest)?))),
            b'$' => match length(rest)? {
                None => Ok(Ok(Value::Null)),
                Some(length) if length <= LONGEST => {
                    let mut bytes = vec![0; length + 2];
                    reader.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Ok(Ok(Value::Bytes(bytes.into())))
                }
                Some(length) => Err(broken(&format!("a string of {length} bytes"))),
            },
            b'*' if depth < DEEPEST => {
                let Some(count) = length(rest)? else { return Ok(Ok(Value::Null)) };
                let mut values = Vec::new();
                for _ in 0..count {
                    let value = read_value(reader, depth + 1).await?;
                    values.push(value.map_err(|error| broken(&format!("`{error}` in a list")))?);
                }
                Ok(Ok(Value::Array(values)))
            }
            _ => Err(broken(&format!("`{}`", String::from_utf8_lossy(&line)))),
        }
    }
    .boxed()
}

/// A line without its end.
async fn read_line<R: AsyncBufRead + Send + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    // No line that a server sends is longer than an error's few hundred bytes.
    let mut reader = reader.take(CHUNK as u64);
    reader.read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        Some(content) => {
            line.truncate(content.len());
            Ok(line)
        }
        None if line.is_empty() => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"))
        }
        None => Err(broken("a line without an end")),
    }
}

fn number(digits: &[u8]) -> io::Result<i64> {
    let text = String::from_utf8_lossy(digits);
    text.parse().map_err(|_| broken(&format!("`{text}` where a number should be")))
}

/// The length of a string or a list; `None` of one that is not there.
fn length(digits: &[u8]) -> io::Result<Option<usize>> {
    Ok(usize::try_from(number(digits)?).ok())
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not answer as a server does: {what}"))
}
