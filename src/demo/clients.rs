//! Clients at work while slots move: they read and write all the time, and know what every read must bring.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::data::{self, Data};
use crate::cluster::Address;
use crate::redis::{Dialer, TrafficClient};

/// How many clients there are.
pub(super) const COUNT: u64 = 8;
/// How many keys each writes: nobody else writes them, so it knows what they must hold.
const KEYS_EACH: u64 = 250;
/// How many keys all of them write.
pub(super) const KEYS: u64 = COUNT * KEYS_EACH;
/// Between two rounds of a client. Eight clients then make some thousand calls a second: a busy cluster, with enough
/// of a small machine left for the servers.
const PAUSE: Duration = Duration::from_millis(5);

/// The running clients. They are aborted when this is dropped.
#[derive(Debug)]
pub(super) struct Clients {
    tally: Arc<Tally>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What the clients saw so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    reads: u64,
    writes: u64,
    errors: u64,
    lost: u64,
    slowest: Duration,
    /// The first error or loss, in words.
    first: Option<String>,
}

#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
    lost: AtomicU64,
    slowest_us: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Clients {
    /// Connects, and begins. Returns when every key of theirs has been written once.
    pub(super) async fn start(seed: &Address, data: Data) -> anyhow::Result<Self> {
        let dialer = Dialer::of_demo(seed);
        let mut clients = Vec::new();
        let tally = Arc::new(Tally::default());
        for number in 0..COUNT {
            let connection = TrafficClient::connect(dialer.clone(), seed).await?;
            let mut client = Client { number, connection, tally: Arc::clone(&tally), data, own: Vec::new() };
            client.first_writes().await?;
            clients.push(client);
        }
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for client in clients {
            tasks.spawn(client.work(stop.clone()));
        }
        Ok(Self { tally, stop, tasks })
    }

    /// What they saw so far.
    pub(super) fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Lets each end its round and read all its keys once more; then says what they saw.
    pub(super) async fn stop(&mut self) -> Counts {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.tally.error(&format!("a client ended by a bug: {error}"));
            }
        }
        self.counts()
    }
}

impl Counts {
    /// Reads and writes.
    pub(super) fn calls(&self) -> u64 {
        self.reads + self.writes
    }

    /// Errors and losses.
    pub(super) fn troubles(&self) -> (u64, u64) {
        (self.errors, self.lost)
    }

    /// What is wrong; `None` when nothing is.
    pub(super) fn fault(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!("clients saw errors: {}, lost: {}; the first: {first}", self.errors, self.lost))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads, {} writes, errors: {}, lost: {}; slowest answer {:.0} ms",
            HumanCount(self.reads),
            HumanCount(self.writes),
            self.errors,
            self.lost,
            self.slowest.as_secs_f64() * 1000.0
        )
    }
}

impl Tally {
    fn counts(&self) -> Counts {
        Counts {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            errors: self.errors.load(Relaxed),
            lost: self.lost.load(Relaxed),
            slowest: Duration::from_micros(self.slowest_us.load(Relaxed)),
            first: self.first.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn answered(&self, since: Instant) {
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(took, Relaxed);
    }

    fn error(&self, what: &str) {
        self.errors.fetch_add(1, Relaxed);
        self.note(what);
    }

    fn lost(&self, what: &str) {
        self.lost.fetch_add(1, Relaxed);
        self.note(what);
    }

    fn note(&self, what: &str) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| what.to_owned());
    }
}

struct Client {
    number: u64,
    connection: TrafficClient,
    tally: Arc<Tally>,
    data: Data,
    own: Vec<Written>,
}

/// The versions that a key may hold: a write that ended in an error may have been carried out or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    acknowledged: u64,
    attempted: u64,
}

impl Written {
    fn allows(self, held: Option<&str>) -> bool {
        let version = held.and_then(|held| held.parse::<u64>().ok());
        version.is_some_and(|version| (self.acknowledged..=self.attempted).contains(&version))
    }
}

impl Client {
    async fn first_writes(&mut self) -> anyhow::Result<()> {
        for index in 0..KEYS_EACH {
            let key = self.key(index);
            self.connection.set(&key, "1").await?;
            self.own.push(Written { acknowledged: 1, attempted: 1 });
        }
        Ok(())
    }

    async fn work(mut self, stop: CancellationToken) {
        let mut round = 0;
        while !stop.is_cancelled() {
            let index = round % KEYS_EACH;
            self.write(index).await;
            self.read_own(index).await;
            // An odd stride visits the filled keys in no order that the slots share.
            self.read_filled((round * COUNT + self.number).wrapping_mul(7919) % self.data.keys()).await;
            round += 1;
            tokio::time::sleep(PAUSE).await;
        }
        for index in 0..KEYS_EACH {
            self.read_own(index).await;
        }
    }

    async fn write(&mut self, index: u64) {
        let (key, at) = (self.key(index), place(index));
        self.own[at].attempted += 1;
        let version = self.own[at].attempted;
        let since = Instant::now();
        match self.connection.set(&key, &version.to_string()).await {
            Ok(()) => {
                self.own[at].acknowledged = version;
                self.tally.writes.fetch_add(1, Relaxed);
            }
            Err(error) => self.tally.error(&format!("write of `{key}`: {error}")),
        }
        self.tally.answered(since);
    }

    async fn read_own(&mut self, index: u64) {
        let (key, written) = (self.key(index), self.own[place(index)]);
        self.read(&key, |held| written.allows(held)).await;
    }

    async fn read_filled(&mut self, number: u64) {
        let value = data::value(number);
        self.read(&data::name(number), |held| held == Some(value.as_str())).await;
    }

    async fn read(&mut self, key: &str, may_hold: impl Fn(Option<&str>) -> bool) {
        let since = Instant::now();
        match self.connection.get(key).await {
            Ok(held) => {
                self.tally.reads.fetch_add(1, Relaxed);
                if !may_hold(held.as_deref()) {
                    let held = held.map_or_else(|| "nothing".to_owned(), |held| format!("`{held}`"));
                    self.tally.lost(&format!("`{key}` holds {held}"));
                }
            }
            Err(error) => self.tally.error(&format!("read of `{key}`: {error}")),
        }
        self.tally.answered(since);
    }

    fn key(&self, index: u64) -> String {
        format!("client:{}:{index}", self.number)
    }
}

/// The place of a key in a client's list.
fn place(index: u64) -> usize {
    usize::try_from(index).expect("an index below the number of a client's keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_what_was_acknowledged_or_what_may_have_been_written_since() {
        let check = |written: (u64, u64), held: Option<&str>, allowed: bool| {
            let written = Written { acknowledged: written.0, attempted: written.1 };
            assert_eq!(written.allows(held), allowed, "{written:?} {held:?}");
        };
        check((4, 4), Some("4"), true);
        check((4, 4), Some("3"), false);
        check((4, 6), Some("3"), false);
        check((4, 6), Some("6"), true);
        check((4, 6), Some("7"), false);
        check((4, 6), None, false);
        check((4, 4), Some("four"), false);
    }

    #[test]
    fn the_first_trouble_is_told() {
        let tally = Tally::default();
        assert_eq!(tally.counts().fault(), None);
        tally.lost("`client:0:1` holds nothing");
        tally.error("read of `key:1`: a time-out");
        let expected = "clients saw errors: 1, lost: 1; the first: `client:0:1` holds nothing";
        assert_eq!(tally.counts().fault().as_deref(), Some(expected));
    }
}
