//! What became of a strike, and tables of that.

use std::fmt;
use std::time::Duration;

use evenkeel::cluster::SlotSet;

use crate::blame::Blame;
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
    /// Slots of which the daemon said that a human must decide; and what became of his decision.
    pub(crate) undecided: Option<(String, Result<(), String>)>,
    /// Who is to blame for each write that is lost.
    pub(crate) blames: Vec<Blame>,
    /// Slots of which the daemon took off marks that only replicas had.
    pub(crate) lone_marks: usize,
    /// Which marks it left there.
    pub(crate) marks_left: Result<(), String>,
    /// The last lines of the log of the daemon that was to finish.
    pub(crate) log: String,
}

impl Outcome {
    pub(crate) fn new(seed: u64, what: String) -> Self {
        Self {
            seed,
            what,
            settled: Err("nobody looked".to_owned()),
            seen: Seen::default(),
            undecided: None,
            blames: Vec::new(),
            lone_marks: 0,
            marks_left: Ok(()),
            log: String::new(),
        }
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

    /// Counts the marks that the daemon says it took off replicas; keeps what it wrote, where it left some.
    pub(crate) fn count_marks(&mut self, daemon: &Daemon) {
        let log = daemon.stderr();
        let told = log.lines().filter(|line| line.contains("marks that only its replicas had are taken away"));
        let slots = told.filter_map(|line| line.rsplit_once("slots=")?.1.parse::<SlotSet>().ok());
        self.lone_marks = slots.map(|slots| slots.len()).sum();
        if self.marks_left.is_err() {
            self.log = log;
        }
    }

    /// Whether writes are lost that were not lost by their own replication.
    pub(crate) fn is_lossy(&self) -> bool {
        self.blames.iter().any(|blame| !matches!(blame, Blame::Write { .. }))
    }

    /// Whether slots were left open that nobody has closed since.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.settled.is_err() && !matches!(self.undecided, Some((_, Ok(()))))
    }

    /// What must not be after a strike at the daemon alone: anything that a client sees, or a cluster that is not settled.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.settled.as_ref().err().into_iter().map(|why| format!("not settled: {why}")).collect();
        faults.extend(self.seen.lost.iter().map(|loss| format!("lost: {loss}")));
        faults.extend(self.seen.missed.iter().map(|loss| format!("not found for a time: {loss}")));
        faults.extend(self.seen.errors.iter().map(|error| format!("error: {error}")));
        faults
    }

    /// What must not be after a strike at a server: a cluster that is not settled while nobody says why, or a write that
    /// is gone and nobody is to blame for; `quiesced`: any write that is gone.
    pub(crate) fn server_faults(&self, quiesced: bool) -> Vec<String> {
        let mut faults: Vec<String> = Vec::new();
        match (&self.settled, &self.undecided) {
            (Ok(_), _) | (Err(_), Some((_, Ok(())))) => {}
            (Err(why), None) => faults.push(format!("not settled: {why}")),
            (Err(_), Some((slots, Err(why)))) => faults.push(format!("{slots} was not repaired: {why}")),
        }
        faults.extend(self.marks_left.clone().err());
        let unfounded =
            self.seen.lost.iter().zip(&self.blames).filter(|(_, blame)| quiesced || **blame == Blame::Nobody);
        faults.extend(unfounded.map(|(loss, blame)| format!("lost: {loss}; to blame: {blame}")));
        faults
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}: ", self.seed, self.what)?;
        match &self.settled {
            Ok(took) => write!(f, "settled after {:.2} s", took.as_secs_f64())?,
            Err(why) if self.undecided.is_some() => write!(f, "left to a human: {:?}: {why}", self.undecided)?,
            Err(why) => write!(f, "not settled: {why}")?,
        }
        let Seen { reads, writes, errors, lost, missed, .. } = &self.seen;
        let (errors, lost, missed) = (errors.len(), lost.len(), missed.len());
        write!(f, "; {reads} reads, {writes} writes, {errors} errors, {lost} lost, {missed} missed for a time")?;
        self.seen.lost.iter().zip(&self.blames).try_for_each(|(loss, blame)| write!(f, "\n  {loss}; {blame}"))
    }
}

/// Outcomes of one kind of strike on one kind of server, as a row of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    strikes: usize,
    settled: Vec<Duration>,
    left_to_a_human: usize,
    /// By who is to blame: the write's replication, the move's, the failover of a source with open slots, a promoted replica that
    /// deletes, nobody.
    lost: [usize; 5],
    missed: usize,
    lone_marks: usize,
    errors: usize,
}

impl Tally {
    /// The head of the table, after the cell that names the row.
    pub(crate) const HEAD: &str = "\
strikes | settled | left to a human | lost: writes not replicated | moves not replicated | hidden by a failover | deleted by a promoted replica | by nobody \
| missed for a time | marks kept by replicas | client errors | settled after: median | worst |
---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.strikes += 1;
        self.settled.extend(outcome.settled.iter());
        self.left_to_a_human += usize::from(outcome.undecided.is_some());
        self.missed += outcome.seen.missed.len();
        self.errors += outcome.seen.errors.len();
        self.lone_marks += outcome.lone_marks;
        for blame in &outcome.blames {
            let kind = match blame {
                Blame::Write { .. } => 0,
                Blame::Move { .. } => 1,
                Blame::Hidden { .. } => 2,
                Blame::Deleted => 3,
                Blame::Nobody => 4,
            };
            self.lost[kind] += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            strikes,
            left_to_a_human,
            lost: [writes, moves, hidden, deleted, nobody],
            missed,
            lone_marks,
            errors,
            ..
        } = self;
        let mut times = self.settled.clone();
        times.sort_unstable();
        let seconds =
            |time: Option<&Duration>| time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
        let (median, worst) = (seconds(times.get(times.len() / 2)), seconds(times.last()));
        write!(f, "{strikes} | {} | {left_to_a_human} | {writes} | {moves} | {hidden} | {deleted} ", times.len())?;
        write!(f, "| {nobody} ")?;
        write!(f, "| {missed} | {lone_marks} | {errors} | {median} | {worst} |")
    }
}
