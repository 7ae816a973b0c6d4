//! Counts of the present work, from its first move to its last.

use tokio::time::Instant;

use super::Work;
use super::meter::Meter;

/// What is planned and what the moves that have ended brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    since: Instant,
    slots_moved: usize,
    keys_moved: u64,
    bytes_estimated: u64,
    slots_planned: usize,
    keys_planned: u64,
    /// A plan is being carried out, and not only found slots finished: what it began it brings to an exact end.
    pub(super) levelling: bool,
}

impl Account {
    /// Work that begins now; the keys are an estimate.
    pub(super) fn begin(slots_planned: usize, keys_planned: u64) -> Self {
        let since = Instant::now();
        Self { since, slots_moved: 0, keys_moved: 0, bytes_estimated: 0, slots_planned, keys_planned, levelling: false }
    }

    /// Plans change: with the moves that run so many slots and keys are left now.
    pub(super) fn revise<'a>(
        &mut self,
        slots_left: usize,
        keys_left: u64,
        running: impl Iterator<Item = (&'a Meter, u64)>,
    ) {
        let work = self.work(running);
        self.slots_planned = work.slots_moved + slots_left;
        self.keys_planned = work.keys_moved + keys_left;
    }

    /// A move has ended, which carried about so many bytes.
    pub(super) fn add(&mut self, meter: &Meter, bytes_estimated: u64) {
        self.bytes_estimated += bytes_estimated;
        self.slots_moved += meter.slots();
        self.keys_moved += meter.keys();
    }

    /// Progress, with what the moves that run have brought so far, and about how many bytes that is.
    pub(super) fn work<'a>(&self, running: impl Iterator<Item = (&'a Meter, u64)>) -> Work {
        let so_far = (self.slots_moved, self.keys_moved, self.bytes_estimated);
        let (slots_moved, keys_moved, bytes_estimated) = running
            .fold(so_far, |(slots, keys, bytes), (meter, estimated)| {
                (slots + meter.slots(), keys + meter.keys(), bytes + estimated)
            });
        Work {
            slots_planned: self.slots_planned.max(slots_moved),
            slots_moved,
            keys_planned: Some(self.keys_planned.max(keys_moved)),
            keys_moved,
            bytes_estimated,
            elapsed: self.since.elapsed(),
            active: true,
        }
    }
}
