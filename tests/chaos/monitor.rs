//! What a node is asked, as its `MONITOR` shows it, in the order in which it carried it out.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Cluster, Node};

/// How long `MONITOR` may lag behind.
const LAG: Duration = Duration::from_millis(500);

/// A node that is listened to. Without a password only.
pub(crate) struct Monitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Asked>>,
}

/// A command that a node carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// Its words; bytes that do not print are escaped as the server does it.
    pub(crate) words: Vec<String>,
}

impl Monitor {
    /// Listens to a running node, and keeps the commands whose first word is one of these.
    pub(crate) fn start(cluster: &Cluster, node: Node, keep: &'static [&'static str]) -> Self {
        let address = cluster.address(node);
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).expect("a running node answers");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out can be set");
        stream.write_all(b"MONITOR\r\n").expect("a running node can be asked");
        let mut reader = BufReader::new(stream);
        let mut agreed = String::new();
        let _ = reader.read_line(&mut agreed);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || listen(reader, keep, &stop))
        };
        Self { stop, thread }
    }

    /// What was asked until now.
    pub(crate) fn stop(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("who listens does not panic")
    }
}

fn listen(mut reader: BufReader<TcpStream>, keep: &[&str], stop: &AtomicBool) -> Vec<Asked> {
    let (mut asked, mut line, mut stopped) = (Vec::new(), Vec::new(), None);
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return asked,
            Ok(_) if line.ends_with(b"\n") => {
                let one = read(&String::from_utf8_lossy(&line));
                asked.extend(one.filter(|one| keep.iter().any(|word| one.words[0].eq_ignore_ascii_case(word))));
                line.clear();
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The node has ended.
            Err(_) => return asked,
        }
        if stop.load(Ordering::Relaxed) {
            let since: &mut Instant = stopped.get_or_insert_with(Instant::now);
            if since.elapsed() > LAG {
                return asked;
            }
        }
    }
}

/// `+1700000000.123456 [0 127.0.0.1:5000] "GET" "a key"`, whose words hold no quotation mark.
fn read(line: &str) -> Option<Asked> {
    let words: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    (!words.is_empty()).then_some(Asked { words })
}
