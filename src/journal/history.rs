//! The moves that ended lately.

use std::collections::VecDeque;

use super::Moved;

/// Moves that are kept: some hours of a large rebalance, a few hundred KiB of file.
pub const HISTORY_MAX: usize = 1_000;

/// Moves that ended, never more than [`HISTORY_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(VecDeque<Moved>);

impl FromIterator<Moved> for History {
    /// Newest last.
    fn from_iter<T: IntoIterator<Item = Moved>>(moves: T) -> Self {
        let mut history = Self::default();
        moves.into_iter().for_each(|moved| history.remember(moved));
        history
    }
}

impl History {
    /// Adds one, in the place of the oldest if there are too many.
    pub fn remember(&mut self, moved: Moved) {
        if self.0.len() == HISTORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back(moved);
    }

    /// Newest last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Moved> + ExactSizeIterator {
        self.0.iter()
    }
}
