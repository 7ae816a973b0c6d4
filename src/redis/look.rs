//! A look at one end of a move: several questions in one piece, which the server answers in their order and mostly in one turn.

use bytes::Bytes;

use super::commands::{A_WRITE, Counted, databases_in, words};
use super::{CallError, Conn, ServerTime};
use crate::cluster::{Slot, SlotSet};

/// What a node is asked beside `CLUSTER NODES`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Questions<'a> {
    /// To carry out a write, before all else: what it says is as of after it. A primary that is about to hand over to a
    /// replica has writes wait, and this look with them ([`Conn::await_writes`]).
    pub write: bool,
    /// Its clock, before what follows.
    pub time: bool,
    /// How many keys of each of these slots it holds in the first database, after `CLUSTER NODES`.
    pub count: Option<&'a SlotSet>,
}

/// What a node said; what it was not asked is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Its clock.
    pub time: Option<ServerTime>,
    /// The text of `CLUSTER NODES`.
    pub nodes: String,
    /// The databases that hold any key, in ascending order, as of before the count.
    pub databases: Vec<u32>,
    /// Keys of each slot.
    pub counted: Counted,
}

impl Conn {
    /// Asks all of it at once. The connection is a bare one ([`Dialer::bare`]).
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    pub async fn look(&self, questions: Questions<'_>) -> Result<Answers, CallError> {
        let Questions { write, time, count } = questions;
        let slots: Vec<Slot> = count.into_iter().flat_map(SlotSet::iter).collect();
        let count_one =
            |slot: &Slot| ("CLUSTER", vec![Bytes::from_static(b"COUNTKEYSINSLOT"), slot.to_string().into()]);
        let calls = [
            write.then(|| ("EVAL", words(&A_WRITE))),
            time.then(|| ("TIME", Vec::new())),
            Some(("CLUSTER", words(&["NODES"]))),
            count.map(|_| ("INFO", words(&["keyspace"]))),
        ];
        let calls = calls.into_iter().flatten().chain(slots.iter().map(count_one)).collect();
        let mut replies = self.call_together(calls).await?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Err(self.unexpected("CLUSTER NODES", "too few replies")));
        if write {
            next()?;
        }
        let time = if time { Some(self.server_time(&next()?)?) } else { None };
        let nodes = self.text_of("CLUSTER NODES", next()?)?;
        let databases = if count.is_some() { databases_in(&self.text_of("INFO", next()?)?) } else { Vec::new() };
        let counted = slots.iter().map(|&slot| Ok((slot, self.number_of_keys(&next()?)?))).collect::<Result<_, _>>()?;
        Ok(Answers { time, nodes, databases, counted })
    }
}
