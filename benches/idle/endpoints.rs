//! A process that answers like the nodes of a large cluster at rest, each at a port of its own.
//!
//! It knows the commands that evenkeel sends while it looks, answers them with texts of the size and form that Redis 7.0
//! sends, and counts them. What changes by itself at real nodes changes here: the times of pings and pongs and
//! the counts of messages.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use evenkeel::cluster::Slot;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The `INFO` of a node of Redis 7.0 without keys, but for the fields that differ from node to node.
const INFO: &str = include_str!("info.txt");
/// How [`calls`](super::calls) asks how often each command was answered.
pub(crate) const CALLS: &str = "CALLS";

/// The cluster, and what was asked of it.
struct Cluster {
    nodes: Vec<Node>,
    began: Instant,
    calls: Mutex<BTreeMap<String, u64>>,
}

struct Node {
    id: String,
    port: u16,
    /// The number of its primary.
    replicates: Option<usize>,
    /// Its line in `CLUSTER NODES` as others have it: what stands before the flags, and after the time of the last pong.
    before: String,
    after: String,
}

/// Answers for so many nodes, each primary of which has so many replicas, until its standard input ends. Writes the port
/// of the first one to its standard output.
pub(crate) fn serve(nodes: usize, replicas: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port for each node"));
        }
        let ports = listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        let cluster = Arc::new(Cluster::new(ports, replicas));
        for (at, listener) in listeners.into_iter().enumerate() {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let cluster = Arc::clone(&cluster);
                    // A client that goes away ends its own connection only.
                    tokio::spawn(async move { drop(cluster.answer(at, stream).await) });
                }
            });
        }
        println!("{}", cluster.nodes[0].port);
        io::stdout().flush().expect("its starter reads");
        let _ = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await;
    });
}

impl Cluster {
    fn new(ports: Vec<u16>, replicas: usize) -> Self {
        let primaries = ports.len() / (replicas + 1);
        let id = |at: usize| format!("{:040x}", (at as u128 + 1) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let node = |(at, port): (usize, u16)| {
            let replicates = (at >= primaries).then(|| at % primaries);
            let (of, epoch) = replicates.map_or_else(|| ("-".to_owned(), at), |primary| (id(primary), primary));
            let slots = match replicates {
                None => format!(" {}-{}", at * Slot::COUNT / primaries, (at + 1) * Slot::COUNT / primaries - 1),
                Some(_) => String::new(),
            };
            let after = format!(" {} connected{slots}\n", epoch + 1);
            let before = format!("{} 127.0.0.1:{port}@{port} ", id(at));
            let role = if replicates.is_some() { "slave" } else { "master" };
            Node { id: id(at), port, replicates, before, after: format!("{role} {of} 0 |{after}") }
        };
        let nodes = ports.into_iter().enumerate().map(node).collect();
        Self { nodes, began: Instant::now(), calls: Mutex::default() }
    }

    async fn answer(&self, at: usize, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(words) = read(&mut stream).await? {
            let reply = self.reply(at, &words);
            stream.write_all(reply.as_bytes()).await?;
        }
        Ok(())
    }

    fn reply(&self, at: usize, words: &[String]) -> String {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some(name) = words.first().filter(|name| !name.eq_ignore_ascii_case(CALLS)) {
            let name = if *name == "cluster" { words[..words.len().min(2)].join(" ") } else { (*name).to_owned() };
            *self.calls.lock().expect("nobody panics with it").entry(name).or_default() += 1;
        }
        match words[..] {
            ["hello", ..] => HELLO.to_owned(),
            ["cluster", "myid"] => bulk(&self.nodes[at].id),
            ["cluster", "nodes"] => bulk(&self.cluster_nodes(at)),
            ["cluster", "info"] => bulk(&self.cluster_info(at)),
            ["info", ..] => bulk(&self.info(at)),
            // Neither kind of migration that servers carry out by themselves.
            ["command", "info", ..] => "*2\r\n*0\r\n*0\r\n".to_owned(),
            ["calls"] => {
                let calls = self.calls.lock().expect("nobody panics with it");
                bulk(&calls.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join("\n"))
            }
            ["ping" | "client" | "auth" | "select" | "quit", ..] => "+OK\r\n".to_owned(),
            _ => format!("-ERR these endpoints do not know `{}`\r\n", words.join(" ")),
        }
    }

    fn cluster_nodes(&self, at: usize) -> String {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
        let mut text = String::with_capacity(self.nodes.len() * 128);
        for (number, node) in self.nodes.iter().enumerate() {
            let (mine, pong) = if number == at { ("myself,", 0) } else { ("", now - (number as u128 * 37) % 7_000) };
            let (flags, slots) = node.after.split_once('|').expect("as it was made");
            let _ = write!(text, "{}{mine}{flags}{pong}{slots}", node.before);
        }
        text
    }

    fn cluster_info(&self, at: usize) -> String {
        let primaries = self.nodes.iter().filter(|node| node.replicates.is_none()).count();
        let epoch = self.nodes[at].replicates.unwrap_or(at) + 1;
        let sent = self.began.elapsed().as_millis();
        let nodes = self.nodes.len();
        format!(
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
             cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{primaries}\r\n\
             cluster_current_epoch:{primaries}\r\ncluster_my_epoch:{epoch}\r\n\
             cluster_stats_messages_ping_sent:{sent}\r\ncluster_stats_messages_pong_sent:{sent}\r\n\
             cluster_stats_messages_sent:{sent}\r\ncluster_stats_messages_ping_received:{sent}\r\n\
             cluster_stats_messages_pong_received:{sent}\r\ncluster_stats_messages_received:{sent}\r\n\
             total_cluster_links_buffer_limit_exceeded:0\r\n"
        )
    }

    fn info(&self, at: usize) -> String {
        let node = &self.nodes[at];
        let mut text = INFO.replace('\n', "\r\n");
        let _ = write!(text, "run_id:{}\r\ntcp_port:{}\r\nmaster_replid:{0}\r\n", node.id, node.port);
        if let Some(primary) = node.replicates {
            let port = self.nodes[primary].port;
            text.push_str("role:slave\r\nmaster_host:127.0.0.1\r\nmaster_link_status:up\r\n");
            let _ = write!(text, "master_port:{port}\r\n");
        } else {
            text.push_str("role:master\r\n");
            let replicas = self.nodes.iter().filter(|node| node.replicates == Some(at)).enumerate();
            for (number, replica) in replicas {
                let port = replica.port;
                let _ = write!(text, "slave{number}:ip=127.0.0.1,port={port},state=online,offset=0,lag=1\r\n");
            }
        }
        text
    }
}

const HELLO: &str = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
                     $2\r\nid\r\n:7\r\n$4\r\nmode\r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// The words of the next command, sent as an array or as a line; `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<String>>> {
    let Some(line) = read_line(stream).await? else { return Ok(None) };
    let Some(count) = line.strip_prefix('*') else {
        return Ok(Some(line.split_whitespace().map(str::to_owned).collect()));
    };
    let mut words = Vec::new();
    for _ in 0..number(count)? {
        let Some(length) = read_line(stream).await? else { return Ok(None) };
        let mut word = vec![0; number(length.trim_start_matches('$'))? + 2];
        stream.read_exact(&mut word).await?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(Some(words))
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    Ok((stream.read_line(&mut line).await? > 0).then(|| line.trim_end().to_owned()))
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is not a number")))
}
