//! What the supervisor does when it is told something.

use tracing::info;

use super::super::aside;
use super::super::command::Command;
use super::Supervisor;

impl Supervisor {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Retry { slots, answer } => {
                let retried = aside::put_back(&mut self.set_aside, &slots);
                if !retried.put_back.is_empty() {
                    info!(slots = %retried.put_back, "slots that were set aside are put back, as told");
                    self.parts.nudge.notify_one();
                }
                // Whoever asked may have gone away meanwhile; it is done all the same.
                let _ = answer.send(retried);
            }
        }
    }
}
