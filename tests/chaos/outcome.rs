//! What became of a strike, and tables of that.

use std::fmt;
use std::time::Duration;

use crate::clients::Seen;
use crate::support::Daemon;

/// What became of one strike.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) what: String,
    /// How long it took until the cluster was whole and settled; or why it was not.
    pub(crate) settled: Result<Duration, String>,
    /// What the clients saw from the strike to the end.
    pub(crate) seen: Seen,
    /// The last lines of the log of the daemon that was to finish.
    pub(crate) log: String,
}

impl Outcome {
    pub(crate) fn new(seed: u64, what: String) -> Self {
        Self { seed, what, settled: Err("nobody looked".to_owned()), seen: Seen::default(), log: String::new() }
    }

    /// Adds what the clients saw.
    pub(crate) fn saw(&mut self, seen: Seen) {
        self.seen.add(seen);
    }

    /// Keeps what the daemon wrote, where it may be needed.
    pub(crate) fn evidence(&mut self, daemon: &Daemon) {
        if self.settled.is_err() || !self.seen.lost.is_empty() {
            self.log = daemon.stderr();
        }
    }

    /// What must not be after a strike at the daemon alone: anything that a client sees, or a cluster that is not settled.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.settled.as_ref().err().into_iter().map(|why| format!("not settled: {why}")).collect();
        faults.extend(self.seen.lost.iter().map(|loss| format!("lost: {loss}")));
        faults.extend(self.seen.errors.iter().map(|error| format!("error: {error}")));
        faults
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}: ", self.seed, self.what)?;
        match &self.settled {
            Ok(took) => write!(f, "settled after {:.2} s", took.as_secs_f64())?,
            Err(why) => write!(f, "not settled: {why}")?,
        }
        let Seen { reads, writes, errors, lost, .. } = &self.seen;
        write!(f, "; {reads} reads, {writes} writes, {} errors, {} lost", errors.len(), lost.len())
    }
}

/// Outcomes of one kind of strike on one kind of server, as a row of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    strikes: usize,
    settled: Vec<Duration>,
    lost: usize,
    errors: usize,
    slowest: Duration,
}

impl Tally {
    /// The head of the table.
    pub(crate) const HEAD: &str = "\
| strikes | settled | keys lost | client errors | settled after: median | worst | slowest answer |
|---:|---:|---:|---:|---:|---:|---:|";

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.strikes += 1;
        self.settled.extend(outcome.settled.iter());
        self.lost += outcome.seen.lost.len();
        self.errors += outcome.seen.errors.len();
        self.slowest = self.slowest.max(outcome.seen.slowest);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strikes, lost, errors, .. } = self;
        let mut times = self.settled.clone();
        times.sort_unstable();
        let seconds =
            |time: Option<&Duration>| time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
        let (median, worst) = (seconds(times.get(times.len() / 2)), seconds(times.last()));
        let slowest = seconds(Some(&self.slowest));
        write!(f, "| {strikes} | {} | {lost} | {errors} | {median} | {worst} | {slowest} |", times.len())
    }
}
