//! What the supervisor does when it is told something.

use std::time::SystemTime;

use tracing::info;

use super::super::aside;
use super::super::command::{Command, Paused, Resumed};
use super::Supervisor;
use crate::clock::rfc3339;
use crate::journal::Pause;

impl Supervisor {
    pub(super) async fn on_command(&mut self, command: Command) {
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
            Command::Pause { until, answer } => {
                let pause = Pause { since: SystemTime::now(), until };
                self.paused = Some(pause);
                for running in self.running.values() {
                    running.stop.cancel();
                }
                info!(
                    until = until.and_then(rfc3339),
                    "paused, as told: open slots are finished, nothing new is begun"
                );
                self.turn();
                let survives_restart = self.parts.records.paused(Some(pause)).await;
                let _ = answer.send(Paused { pause, survives_restart });
            }
            Command::Resume { answer } => {
                let pause = self.paused;
                let returns_at_restart = self.resume("as told").await;
                let _ = answer.send(Resumed { pause, returns_at_restart });
            }
        }
    }

    /// Ends a pause whose time has come.
    pub(super) async fn end_pause(&mut self) {
        let ends = self.paused.and_then(|pause| pause.until);
        if ends.is_some_and(|until| until <= SystemTime::now()) {
            self.resume("its time is over").await;
        }
    }

    /// Ends a pause, if there is one; whether a restart would bring it back.
    async fn resume(&mut self, why: &str) -> bool {
        if self.paused.take().is_none() {
            return false;
        }
        info!(why, "the pause ends");
        self.parts.nudge.notify_one();
        let recorded = self.parts.records.paused(None).await;
        !recorded && self.parts.records.pause().is_some()
    }
}
