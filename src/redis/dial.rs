//! Opening connections: address, login, TLS, name, and the proof of who answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::ErrorKind;
use fred::interfaces::ClientLike;
use fred::socket2::TcpKeepalive;
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig, UnresponsiveConfig,
};
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::TlsConnector;

use super::conn::{Link, Login, Proof};
use super::error::in_words;
use super::permissions::lacking_at;
use super::tls_fault::{self, Wished};
use super::wire::Wire;
use super::{CallError, Conn, OpenError, Value, Wanted};
use crate::cluster::{Address, NodeId, Product};
use crate::config::{Secrets, TlsFiles};
use crate::tls;

/// What a connection is for; shown to everybody in its name (`CLIENT LIST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To move slots, if there are any to move.
    Acting,
    /// To look only.
    Observing,
}

impl Intent {
    /// The part of the connection's name that says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acting => "acting",
            Self::Observing => "observing",
        }
    }
}

/// Opens connections for one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    settings: Arc<Settings>,
    /// Connections are to be bare.
    bare: bool,
}

#[derive(Debug)]
struct Settings {
    username: Option<String>,
    secrets: Secrets,
    tls: Option<TlsFiles>,
    /// The table that has it.
    table: &'static str,
    wanted: Wanted,
    address_map: BTreeMap<Address, Address>,
    connect_timeout: Duration,
    call_timeout: Duration,
    name: String,
}

impl Dialer {
    /// A dialer for the cluster of this configuration; `instance` tells this process's connections from another's.
    #[must_use]
    pub fn new(config: &crate::config::Config, intent: Intent, instance: &str) -> Self {
        Self {
            bare: false,
            settings: Arc::new(Settings {
                username: config.cluster.username.clone(),
                secrets: Secrets::of(&config.cluster),
                tls: config.cluster.tls.clone(),
                table: "cluster.tls",
                wanted: Wanted::by(config),
                address_map: config.cluster.address_map.clone(),
                connect_timeout: config.migration.connect_timeout,
                call_timeout: config.migration.call_timeout,
                name: format!("evenkeel:{}:{instance}", intent.name()),
            }),
        }
    }

    /// A dialer for the server that keeps the lease of this configuration.
    ///
    /// A renewal that takes longer than the time to the next one is given up.
    #[must_use]
    pub fn of_lease(config: &crate::config::Config, instance: &str) -> Self {
        let (lease, limit) = (&config.lease, config.lease.ttl / 5);
        Self {
            bare: false,
            settings: Arc::new(Settings {
                username: lease.username.clone(),
                secrets: Secrets::of_file(lease.password_file.clone()),
                tls: lease.tls.clone(),
                table: "lease.tls",
                wanted: Wanted::by(config),
                address_map: BTreeMap::new(),
                connect_timeout: config.migration.connect_timeout.min(limit / 2),
                call_timeout: config.migration.call_timeout.min(limit),
                name: format!("evenkeel:lease:{instance}"),
            }),
        }
    }

    /// A dialer for the demonstration's own servers, which ask for no password, whatever the environment says.
    #[must_use]
    pub fn of_demo(seed: &Address) -> Self {
        let config = crate::config::Config::from_seeds(vec![seed.clone()]);
        let name = format!("evenkeel:{}:demo-{}", Intent::Observing.name(), std::process::id());
        Self {
            bare: false,
            settings: Arc::new(Settings {
                username: None,
                secrets: Secrets::none(),
                tls: None,
                table: "cluster.tls",
                wanted: Wanted::by(&config),
                address_map: BTreeMap::new(),
                connect_timeout: config.migration.connect_timeout,
                // Its servers share the machine with everything else that the demonstration runs.
                call_timeout: config.migration.call_timeout * 4,
                name,
            }),
        }
    }

    /// The same for bare connections: they take little memory, one call at a time, and several commands in one piece.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), bare: true }
    }

    /// The name that the connections carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// How long an ordinary call may take.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.settings.call_timeout
    }

    /// Connects to whichever cluster node answers at an address.
    ///
    /// TLS verifies the configured server name, else `hostname` (what the node announces), else the address's host.
    pub async fn open_any(&self, address: &Address, hostname: Option<&str>) -> Result<Conn, OpenError> {
        let mut conn = self.connect(address, hostname).await?;
        let proof = prove(&conn).await.map_err(|error| match error {
            // A server that does not take our certificate says so at the first word over the wire.
            OpenError::Unreachable { address, why } => self.sorted(&address, why, Cause::Other, &address.host),
            OpenError::Login { address, why } => self.login_refused(address, &why),
            OpenError::NotPermitted { .. }
            | OpenError::Secrets { .. }
            | OpenError::Standalone { .. }
            | OpenError::Tls { .. }
            | OpenError::WrongNode { .. } => error,
        });
        conn.proof = Some(proof?);
        let name = self.settings.name.clone();
        // A name is for other people's eyes: a user who may not set it works all the same.
        let _ = conn.call("CLIENT", vec![Bytes::from_static(b"SETNAME"), name.into()]).await;
        Ok(conn)
    }

    /// Connects and signs in. Who answers is not proven: [`Conn::node`] must not be asked.
    pub(super) async fn connect(&self, address: &Address, hostname: Option<&str>) -> Result<Conn, OpenError> {
        let settings = &self.settings;
        let dialled = settings.address_map.get(address).unwrap_or(address).clone();
        let secrets = |why: String| OpenError::Secrets { address: dialled.clone(), why };
        let password = settings.secrets.password().map_err(|error| secrets(error.to_string()))?;
        let tls = settings.tls.as_ref().map(tls::client_config).transpose().map_err(secrets)?;
        let server_name = settings.tls.as_ref().and_then(|tls| tls.server_name.as_deref().or(hostname));
        let name = server_name.unwrap_or(&dialled.host);
        let user = settings.username.clone().unwrap_or_else(|| "default".to_owned());
        let login = Login { user, wanted: settings.wanted };
        if self.bare {
            let tls = tls.map(|tls| (TlsConnector::from(Arc::new(tls)), name));
            let wire = match tokio::time::timeout(settings.connect_timeout, Wire::connect(&dialled, tls)).await {
                Ok(Ok(wire)) => wire,
                Ok(Err(why)) => return Err(self.sorted(&dialled, why, Cause::Other, name)),
                Err(_) => {
                    let why = format!("no answer within {:?}", settings.connect_timeout);
                    return Err(self.sorted(&dialled, why, Cause::Silence, name));
                }
            };
            let conn = Conn::new(Link::Bare(wire), dialled, settings.call_timeout, login);
            self.sign_in(&conn, password.as_ref()).await?;
            return Ok(conn);
        }
        let config = Config {
            fail_fast: true,
            username: settings.username.as_deref().map(quoted),
            // A named user without a password is one that needs none (ACL `nopass`), and still has to sign in.
            password: password
                .map(|password| quoted(password.expose_secret()))
                .or_else(|| settings.username.is_some().then(|| quoted(""))),
            server: ServerConfig::Centralized { server: server(&dialled, server_name) },
            version: RespVersion::RESP3,
            tls: tls.map(TlsConfig::from),
            ..Config::default()
        };
        let performance = PerformanceConfig {
            default_command_timeout: settings.call_timeout,
            // Nobody listens to the library's events, and it has ten channels for them: with its default of 32 each
            // they would be most of what a connection takes.
            broadcast_channel_capacity: 2,
            ..PerformanceConfig::default()
        };
        let client = Client::new(config, Some(performance), Some(self.connection_config()), None);
        // The library's own time-out covers the TCP connection, not what a silent server does after it.
        let opened = tokio::time::timeout(settings.connect_timeout * 2, Box::pin(client.init())).await;
        let handle = match opened {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => {
                let causes = [(ErrorKind::Auth, Cause::Login), (ErrorKind::Timeout, Cause::Silence)];
                let cause =
                    causes.iter().find(|(kind, _)| kind == error.kind()).map_or(Cause::Other, |(_, cause)| *cause);
                return Err(self.sorted(&dialled, in_words(error.details()), cause, name));
            }
            Err(_) => {
                let why = format!("no answer within {:?}", settings.connect_timeout * 2);
                return Err(self.sorted(&dialled, why, Cause::Silence, name));
            }
        };
        Ok(Conn::new(Link::Library { client, handle }, dialled, settings.call_timeout, login))
    }

    /// What the library does by itself.
    async fn sign_in(&self, conn: &Conn, password: Option<&SecretString>) -> Result<(), OpenError> {
        let username = self.settings.username.as_deref();
        if username.is_none() && password.is_none() {
            return Ok(());
        }
        let words = [username.unwrap_or("default"), password.map_or("", ExposeSecret::expose_secret)];
        let args = words.map(|word| Bytes::from(word.to_owned())).to_vec();
        match conn.call_within("AUTH", args, self.settings.connect_timeout).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { address, text, .. }) => Err(self.login_refused(address, &text)),
            // The first word over the wire, see above.
            Err(CallError::NoAnswer { address, why, .. }) => {
                Err(self.sorted(&address, why, Cause::Other, &address.host))
            }
            Err(error @ CallError::Unexpected { .. }) => {
                Err(OpenError::Unreachable { address: conn.address().clone(), why: error.to_string() })
            }
        }
    }

    /// Why a connection could not be opened, in words; TLS wanted a certificate for this name.
    fn sorted(&self, address: &Address, mut why: String, cause: Cause, name: &str) -> OpenError {
        let address = address.clone();
        let wished = self.settings.tls.as_ref().map(|files| Wished { table: self.settings.table, files, name });
        if let Some(why) = wished.as_ref().and_then(|wished| tls_fault::told(&why, wished)) {
            return OpenError::Tls { address, why };
        }
        if wished.is_some() && cause == Cause::Silence {
            why += tls_fault::SILENT;
        }
        if wished.is_none() && ["reset by peer", "closed the connection"].iter().any(|it| why.contains(it)) {
            why += &tls_fault::of_plain_text(self.settings.table);
        }
        let login = cause == Cause::Login || ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|word| why.contains(word));
        if login { self.login_refused(address, &why) } else { OpenError::Unreachable { address, why } }
    }

    /// What a server said to whom we are, and by what password.
    fn login_refused(&self, address: Address, why: &str) -> OpenError {
        let Settings { username, secrets, table, .. } = &*self.settings;
        let table = table.trim_end_matches(".tls");
        let told = match (username, secrets.password_source()) {
            (None, None) => format!("set {table}.username and {table}.password_file"),
            (user, source) => {
                let user = user.as_deref().unwrap_or("default");
                let source = source.map_or_else(|| "no password".to_owned(), |it| format!("the password of {it}"));
                format!("that was user {user} with {source}")
            }
        };
        OpenError::Login { address, why: format!("{why}; {told}") }
    }

    /// Connects to one node; any other that answers at the address is an error.
    pub async fn open(&self, address: &Address, hostname: Option<&str>, expected: NodeId) -> Result<Conn, OpenError> {
        let conn = self.open_any(address, hostname).await?;
        if conn.node() == expected {
            return Ok(conn);
        }
        Err(OpenError::WrongNode { address: conn.address().clone(), found: conn.node(), expected })
    }

    /// The same, where the address is the one that was dialled before, and not one that is announced.
    pub async fn open_dialled(
        &self,
        dialled: &Address,
        hostname: Option<&str>,
        expected: NodeId,
    ) -> Result<Conn, OpenError> {
        // Whatever is announced as reachable there maps to it, or it is announced as it is.
        let announced = self.settings.address_map.iter().find(|(_, reachable)| *reachable == dialled);
        self.open(announced.map_or(dialled, |(announced, _)| announced), hostname, expected).await
    }

    fn connection_config(&self) -> ConnectionConfig {
        ConnectionConfig {
            connection_timeout: self.settings.connect_timeout,
            internal_command_timeout: self.settings.connect_timeout,
            max_command_attempts: 1,
            max_redirections: 1,
            // Killing a connection for being slow would make the library send the command again.
            unresponsive: UnresponsiveConfig { max_timeout: None, ..UnresponsiveConfig::default() },
            reconnect_on_auth_error: false,
            auto_client_setname: false,
            // Counts are sent side by side: 16,384 slots at the most, and some room.
            max_command_buffer_len: 20_000,
            tcp: TcpConfig {
                nodelay: Some(true),
                // Closing discards what was not delivered: else the kernel would go on offering a call that we gave up,
                // and a SETSLOT could be carried out long after everybody had decided that it never was.
                linger: Some(Duration::ZERO),
                keepalive: Some(TcpKeepalive::new().with_time(Duration::from_secs(10))),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        }
    }
}

fn server(address: &Address, tls_server_name: Option<&str>) -> Server {
    Server { host: address.host.as_str().into(), port: address.port, tls_server_name: tls_server_name.map(Into::into) }
}

/// A user's name or password as a word of the line that the library signs in with.
///
/// It sends `HELLO 3 AUTH name password` as plain text, which the server splits at blanks and quotes. In double quotes
/// the server reads `\xHH` as that byte, so nothing in the word can end it.
fn quoted(word: &str) -> String {
    let mut quoted = "\"".to_owned();
    for byte in word.bytes() {
        let _ = write!(quoted, "\\x{byte:02x}");
    }
    quoted.push('"');
    quoted
}

/// What kept a connection from being opened, as far as its words do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Login,
    Silence,
    Other,
}

/// Asks the node who it is: its id, and the process.
async fn prove(conn: &Conn) -> Result<Proof, OpenError> {
    let id = match conn.call("CLUSTER", vec![Bytes::from_static(b"MYID")]).await {
        Ok(value) => value.text().and_then(|text| text.parse().ok()),
        Err(error) => return Err(proof_error(conn, "CLUSTER MYID", error).await),
    };
    let Some(node) = id else {
        let why = "it answered CLUSTER MYID with something that is not a node id".to_owned();
        return Err(OpenError::Unreachable { address: conn.address().clone(), why });
    };
    let info = match conn.call("INFO", vec![Bytes::from_static(b"server")]).await {
        Ok(value) => value,
        Err(error) => return Err(proof_error(conn, "INFO", error).await),
    };
    let Some(run_id) = field(&info, "run_id:") else {
        let why = "its INFO names no run_id".to_owned();
        return Err(OpenError::Unreachable { address: conn.address().clone(), why });
    };
    let product = if field(&info, "valkey_version:").is_some() { Product::Valkey } else { Product::Redis };
    Ok(Proof { node, run_id, product })
}

fn field(info: &Value, name: &str) -> Option<String> {
    info.text()?.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

async fn proof_error(conn: &Conn, command: &'static str, error: CallError) -> OpenError {
    let address = conn.address().clone();
    match error {
        CallError::Refused { text, .. } if text.contains("cluster support disabled") => {
            OpenError::Standalone { address }
        }
        CallError::Refused { text, .. } if text.starts_with("NOPERM") => {
            OpenError::NotPermitted { address, command, why: text, grant: lacking_at(conn).await }
        }
        CallError::Refused { text, .. } if text.starts_with("NOAUTH") => OpenError::Login { address, why: text },
        error @ (CallError::Refused { .. } | CallError::NoAnswer { .. } | CallError::Unexpected { .. }) => {
            OpenError::Unreachable { address, why: error.to_string() }
        }
    }
}
