//! A bare connection: one exchange at a time, in RESP2, without a task and without memory between the calls.
//!
//! For looking at the cluster, which has a connection to every node open for as long as it runs: those of the client library
//! take 70 KiB each, and as much again as the longest reply, at a thousand nodes hundreds of megabytes. For commands
//! that are to arrive together, where the library sends each by itself. And for keys: here no listing of names is taken for
//! anything else, and no reply passes through another task. What is not here: calls that do not wait for each other.

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fred::socket2::{SockRef, TcpKeepalive};
use futures::FutureExt;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Value;
use crate::cluster::Address;

/// Room for a reply at first; a longer one makes more. Given back after the call.
const ROOM: usize = 16 * 1024;
/// A longer reply is an error, after which the connection is closed: no server sends one, unless its `proto-max-bulk-len` (512
/// MiB by default) was raised beyond.
const LONGEST: usize = 1024 * 1024 * 1024;
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
        let socket = SockRef::from(&tcp);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)).map_err(told)?;
        // Closing discards what was not delivered, as with the library: nothing is carried out after it was given up.
        socket.set_linger(Some(Duration::ZERO)).map_err(told)?;
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
        let mut replies = self.call_together(&[(command, args)], timeout).await?;
        replies.pop().ok_or_else(|| "no reply".to_owned())
    }

    /// Sends several commands in one piece and reads a reply to each, in their order.
    pub(super) async fn call_together(
        &self,
        calls: &[(&str, &[Bytes])],
        timeout: Duration,
    ) -> Result<Vec<Reply>, String> {
        let mut place = self.stream.lock().await;
        let mut stream = place.take().ok_or_else(|| "the connection was closed after an earlier failure".to_owned())?;
        let exchange = async {
            stream.write_all(&request(calls)?).await?;
            stream.flush().await?;
            read(&mut stream, calls.len()).await
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(replies)) => {
                *place = Some(stream);
                Ok(replies)
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

fn request(calls: &[(&str, &[Bytes])]) -> io::Result<BytesMut> {
    let mut request = BytesMut::new();
    for (command, args) in calls {
        let words = std::iter::once(Bytes::copy_from_slice(command.as_bytes())).chain(args.iter().cloned());
        let frame = BytesFrame::Array(words.map(BytesFrame::BulkString).collect());
        extend_encode(&mut request, &frame, false).map_err(io::Error::other)?;
    }
    Ok(request)
}

/// Reads so many replies, behind which nothing may stand.
async fn read(stream: &mut (impl AsyncRead + Unpin), count: usize) -> io::Result<Vec<Reply>> {
    let mut read = BytesMut::with_capacity(ROOM);
    let mut replies = Vec::with_capacity(count);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        while let Some((frame, ..)) = decode_bytes_mut(&mut read).map_err(|error| broken(&error.to_string()))? {
            replies.push(match frame {
                BytesFrame::Error(text) => Err(text.to_string()),
                frame @ (BytesFrame::SimpleString(_)
                | BytesFrame::BulkString(_)
                | BytesFrame::Integer(_)
                | BytesFrame::Array(_)
                | BytesFrame::Null) => Ok(value(frame)?),
            });
            if replies.len() == count {
                break;
            }
        }
        match replies.len() {
            got if got == count && read.is_empty() => return Ok(replies),
            got if got == count => return Err(broken("more than the reply to one command")),
            _ if read.len() > LONGEST => return Err(broken(&format!("a reply of more than {LONGEST} bytes"))),
            _ => {}
        }
    }
}

fn value(frame: BytesFrame) -> io::Result<Value> {
    match frame {
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => Ok(Value::Bytes(bytes)),
        BytesFrame::Integer(number) => Ok(Value::Integer(number)),
        BytesFrame::Array(frames) => frames.into_iter().map(value).collect::<io::Result<_>>().map(Value::Array),
        BytesFrame::Null => Ok(Value::Null),
        BytesFrame::Error(text) => Err(broken(&format!("`{text}` in a list"))),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not answer as a server does: {what}"))
}
