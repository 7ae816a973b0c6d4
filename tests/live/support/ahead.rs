//! A connection that a server has accepted before it hangs: what is sent on it then is carried out when it wakes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use super::cluster::Cluster;
use super::node::Node;

/// Accepted by one node; a new connection would wait for its next turn, and others would come first.
pub(crate) struct Ahead {
    stream: BufReader<TcpStream>,
}

impl Ahead {
    #[track_caller]
    pub(crate) fn connect(cluster: &Cluster, node: Node) -> Self {
        let address = cluster.address(node);
        let stream = TcpStream::connect((address.host.as_str(), address.port)).expect("it runs");
        let mut ahead = Self { stream: BufReader::new(stream) };
        ahead.send("PING");
        assert_eq!(ahead.reply(), "+PONG");
        ahead
    }

    /// Sends one command without waiting for its answer: the kernel takes it for a process that is stopped.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("the kernel takes it");
    }

    /// The line with which the first command that has none yet is answered.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }
}
