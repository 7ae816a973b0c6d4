//! Lines of `CLUSTER NODES` that were read before.

use std::collections::HashMap;
use std::sync::Arc;

use super::{LineFault, NodeLine};

/// Lines of `CLUSTER NODES`, each read and kept once, whoever wrote it.
///
/// Saves time and memory and nothing else: what is read by it is what would be read without it.
#[derive(Debug, Default)]
pub struct KnownLines {
    /// By their text but for the times of ping and pong.
    lines: HashMap<String, Arc<NodeLine>>,
    /// Where the text of the line at hand is put together.
    text: String,
}

impl KnownLines {
    /// Reads a line.
    pub(super) fn read(&mut self, line: &str) -> Result<Arc<NodeLine>, LineFault> {
        let Some((before, after)) = around_times(line) else { return NodeLine::parse(line).map(Arc::new) };
        self.text.clear();
        self.text.push_str(before);
        self.text.push_str(after);
        if let Some(known) = self.lines.get(&self.text) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(NodeLine::parse(line)?);
        self.lines.insert(self.text.clone(), Arc::clone(&read));
        Ok(read)
    }

    /// Forgets the lines that are in no view any more.
    pub fn forget_unused(&mut self) {
        self.lines.retain(|_, line| Arc::strong_count(line) > 1);
    }

    /// How many lines are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// What stands before the fifth field, and after the sixth, each with the blank between; `None` where there are fewer.
fn around_times(line: &str) -> Option<(&str, &str)> {
    let mut blanks = line.match_indices(' ').map(|(at, _)| at);
    let (before, after) = (blanks.nth(3)?, blanks.nth(1)?);
    Some((&line[..=before], &line[after..]))
}
