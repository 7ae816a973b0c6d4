//! Raw commands to one node, and clients of the whole cluster, by a library that evenkeel does not use.

use std::time::Duration;

use evenkeel::cluster::Slot;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::{Client, Connection, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisResult};

use super::cluster::Cluster;
use super::node::Node;

/// Far above what a healthy server takes; a stopped server must not hang a test.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Cluster {
    /// Sends a command to this node and returns its reply. Panics on an error reply, and when there is none.
    #[track_caller]
    pub(crate) fn cmd<T: FromRedisValue>(&self, node: Node, args: &[impl AsRef<[u8]>]) -> T {
        match self.try_cmd(node, args) {
            Ok(reply) => reply,
            Err(error) => panic!("{} refused `{}`: {error}", self.name(node), words(args)),
        }
    }

    /// Sends a command to this node; error replies and broken connections are errors.
    pub(crate) fn try_cmd<T: FromRedisValue>(&self, node: Node, args: &[impl AsRef<[u8]>]) -> RedisResult<T> {
        let mut place = self.server(node).connection.lock().expect("no command panics");
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.connect(node, 0)?,
        };
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg.as_ref());
        }
        let reply = command.query(&mut connection);
        // After anything but an orderly reply the next command begins afresh.
        if !reply.as_ref().is_err_and(|error: &redis::RedisError| error.is_io_error()) {
            *place = Some(connection);
        }
        reply
    }

    /// The value of a field of this node's `INFO`. Panics when there is none.
    #[track_caller]
    pub(crate) fn info_field(&self, node: Node, name: &str) -> String {
        let info: String = self.cmd(node, &["INFO"]);
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {name}")).to_owned()
    }

    /// A new connection to this node, to a database of it.
    pub(crate) fn connect(&self, node: Node, database: i64) -> RedisResult<Connection> {
        let info = self.connection_addr(node).into_connection_info()?;
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(password) = self.password() {
            settings = settings.set_password(password);
        }
        let info = info.set_redis_settings(settings);
        let client = match self.tls_files() {
            Some(files) => Client::build_with_tls(info, files.for_client())?,
            None => Client::open(info)?,
        };
        let connection = client.get_connection_with_timeout(ANSWER_WITHIN)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        connection.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(connection)
    }

    /// A client that follows redirections, as an application's does; more can be set on it before it is built.
    pub(crate) fn client(&self) -> ClusterClientBuilder {
        let seeds = self.nodes().into_iter().map(|node| self.connection_addr(node));
        let mut builder = ClusterClient::builder(seeds);
        if let Some(password) = self.password() {
            builder = builder.password(password);
        }
        if let Some(files) = self.tls_files() {
            builder = builder.certs(files.for_client());
        }
        builder.connection_timeout(ANSWER_WITHIN).response_timeout(ANSWER_WITHIN)
    }

    /// How many keys of a slot this node holds, in its first database, whether it owns the slot or not.
    pub(crate) fn keys_in(&self, node: Node, slot: Slot) -> usize {
        self.cmd(node, &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])
    }

    fn connection_addr(&self, node: Node) -> ConnectionAddr {
        let address = self.address(node);
        if self.tls_files().is_some() {
            ConnectionAddr::TcpTls { host: address.host, port: address.port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(address.host, address.port)
        }
    }
}

fn words(args: &[impl AsRef<[u8]>]) -> String {
    let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref())).collect();
    words.join(" ")
}
