//! Who a node is and where it is reached.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A node's id: 40 hexadecimal digits that the node keeps for life, ordered as their text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

impl NodeId {
    /// The first eight digits: enough to tell nodes apart in a line of text, never enough to address one.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Text that is not a node id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a node id: a node id is 40 hexadecimal digits in lower case")]
pub struct NodeIdError(String);

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NodeIdError(text.to_owned());
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(error());
        }
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0]).zip(hex(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(error)?;
        }
        Ok(Self(id))
    }
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A host (name, IPv4 or IPv6, never in brackets) and a port.
///
/// Written as `host:port`, an IPv6 host in brackets. Read with or without them: the last colon parts host and port,
/// as in `CLUSTER NODES`, which writes `::1:7000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or IP, without brackets.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

impl Address {
    /// The address of this host (without brackets) and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not an address: an address is host:port, as in 10.0.0.1:6379")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let host = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']').ok_or_else(error)?,
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| error())?;
        let plain = |c: char| !c.is_whitespace() && !matches!(c, '[' | ']' | '/' | '@');
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(error());
        }
        Ok(Self::new(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_forty_lower_case_digits() {
        let text = "07c37dfeb235213a872192d90877d0cd55635b91";
        let id: NodeId = text.parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.short().as_str()), (text, "07c37dfe"));
        for wrong in ["", "07c37dfe", &text.to_uppercase(), &format!("{text}0"), &text.replace('0', "g")] {
            assert!(wrong.parse::<NodeId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_is_read_from_the_right() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Address>().ok().map(|a| a.to_string()).as_deref(), expect, "{text:?}");
        };
        check("10.0.0.1:6379", Some("10.0.0.1:6379"));
        check("::1:7000", Some("[::1]:7000"));
        check("[::1]:7000", Some("[::1]:7000"));
        check("cache-0.local:6379", Some("cache-0.local:6379"));
        for wrong in ["", ":6379", "host", "host:", "host:0", "host:65536", "[::1:7000", "redis://host:1", "a b:1"] {
            check(wrong, None);
        }
    }
}
