//! What went wrong with a server, by what the caller does next.

use fred::error::{Error, ErrorKind};
use thiserror::Error as ThisError;

use crate::cluster::{Address, NodeId};

/// A connection that could not be used.
#[derive(Debug, ThisError)]
pub enum OpenError {
    /// Nothing answers there, or not in time, or not as a Redis or Valkey: try again later.
    #[error("cannot connect to {address}: {why}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What was seen.
        why: String,
    },
    /// The server does not let us in: the user name, the password or the certificate is wrong.
    #[error("{address} refuses the login: {why}")]
    Login {
        /// Where.
        address: Address,
        /// The server's words.
        why: String,
    },
    /// The connection cannot be secured: a certificate of either side is not taken, or no TLS is spoken there.
    #[error("TLS with {address} does not come about: {why}")]
    Tls {
        /// Where.
        address: Address,
        /// What is wrong, and what to set.
        why: String,
    },
    /// The server is not part of any cluster.
    #[error("{address} is a standalone server: it has cluster support disabled (cluster-enabled no)")]
    Standalone {
        /// Where.
        address: Address,
    },
    /// The user may not run a command that every connection begins with.
    #[error("{address} does not permit `{command}` to this user ({why}); {grant}")]
    NotPermitted {
        /// Where.
        address: Address,
        /// The command.
        command: &'static str,
        /// The server's words.
        why: String,
        /// What is to be typed there.
        grant: String,
    },
    /// Another node answers at this address: the address is out of date.
    #[error("{address} is {found}, not {expected}")]
    WrongNode {
        /// Where.
        address: Address,
        /// The node that answers.
        found: NodeId,
        /// The node that was wanted.
        expected: NodeId,
    },
    /// Our own side: a password or certificate that cannot be read.
    #[error("cannot log in to {address}: {why}")]
    Secrets {
        /// Where.
        address: Address,
        /// What is wrong with it.
        why: String,
    },
}

impl OpenError {
    /// A connection that was not waited for any longer.
    pub(crate) fn too_slow(address: &Address) -> Self {
        Self::Unreachable { address: address.clone(), why: "it does not answer in time".to_owned() }
    }
}

/// A call that brought no usable reply.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum CallError {
    /// The reply did not come, or could not be read: whether the call was carried out is not known, and the
    /// connection is closed. Ask again on a new one.
    #[error("no answer from {address} to {command}: {why}")]
    NoAnswer {
        /// Where.
        address: Address,
        /// The command's name.
        command: &'static str,
        /// What was seen.
        why: String,
    },
    /// The server answered with an error.
    #[error("{address} answered {command} with: {text}")]
    Refused {
        /// Where.
        address: Address,
        /// The command's name.
        command: &'static str,
        /// The whole error line.
        text: String,
    },
    /// The server answered something that this command never answers.
    #[error("{address} answered {command} with something unexpected: {what}")]
    Unexpected {
        /// Where.
        address: Address,
        /// The command's name.
        command: &'static str,
        /// What was wrong.
        what: String,
    },
}

impl CallError {
    /// Sorts an error of the client library.
    ///
    /// Its kinds do not tell an error reply from a dead connection; measured: what the server said begins with an
    /// error code in capitals, what the library says does not, and a time-out or IO error is always the library's.
    pub(super) fn from_fred(address: &Address, command: &'static str, error: &Error) -> Self {
        let (address, text) = (address.clone(), in_words(error.details()));
        let of_library = matches!(
            error.kind(),
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Protocol | ErrorKind::Backpressure
        );
        let from_server = !of_library && begins_with_code(&text);
        if from_server {
            Self::Refused { address, command, text }
        } else {
            Self::NoAnswer { address, command, why: text }
        }
    }
}

/// What the library says; an error of the operating system, of which it has the `Debug` form, in that one's words.
pub(super) fn in_words(text: &str) -> String {
    let of_system = || {
        let (code, rest) = text.strip_prefix("Os { code: ")?.split_once(", ")?;
        let message = rest.split_once("message: \"")?.1.strip_suffix("\" }")?;
        Some(format!("{message} (os error {code})"))
    };
    of_system().unwrap_or_else(|| text.to_owned())
}

/// `ERR …`, `NOPERM …`, `IOERR …`: two capitals or more, then a space or the end.
pub(super) fn begins_with_code(text: &str) -> bool {
    let code = text.split(' ').next().unwrap_or_default();
    code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_told_in_its_words() {
        let refused = "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }";
        assert_eq!(in_words(refused), "Connection refused (os error 111)");
        assert_eq!(in_words("Os { code: 111 }"), "Os { code: 111 }");
        assert_eq!(in_words("Request timed out."), "Request timed out.");
    }

    #[test]
    fn an_error_reply_is_told_from_a_dead_connection_by_its_code() {
        let check = |kind, text: &str, refused: bool| {
            let address = Address::new("127.0.0.1", 7000);
            let error = CallError::from_fred(&address, "PING", &Error::new(kind, text.to_owned()));
            assert_eq!(matches!(error, CallError::Refused { .. }), refused, "{text}");
        };
        check(ErrorKind::Unknown, "ERR Unknown node", true);
        check(ErrorKind::Unknown, "IOERR error or timeout reading to target instance", true);
        check(ErrorKind::Unknown, "NOREPLICAS Not enough good replicas to write.", true);
        check(ErrorKind::Cluster, "CLUSTERDOWN The cluster is down", true);
        check(ErrorKind::Unknown, "channel closed", false);
        check(ErrorKind::IO, "Connection closed.", false);
        check(ErrorKind::Timeout, "Request timed out.", false);
    }
}
