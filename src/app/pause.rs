//! `evenkeel pause` and `evenkeel resume`: tell a running daemon to begin nothing new, and to go on.

use super::output::outln;
use super::remote::Remote;
use crate::cli::{ExitStatus, PauseArgs, ResumeArgs};
use crate::http::json::{PauseDocument, PauseRequest, PausedDocument, ResumeRequest, ResumedDocument};

/// `evenkeel pause`.
pub(super) async fn pause(args: &PauseArgs) -> anyhow::Result<ExitStatus> {
    let request = PauseRequest { for_s: args.length.map(|length| length.as_secs()) };
    let told: PausedDocument = Remote::new(&args.daemon)?.post("/api/v1/pause", request).await?.document()?;
    outln!("paused {}; open slots are finished, nothing new is begun", end(&told.paused));
    if !told.survives_restart {
        outln!("it lasts until a restart at the most: the daemon has no state.dir, or cannot write to it");
    }
    Ok(ExitStatus::Done)
}

/// `evenkeel resume`.
pub(super) async fn resume(args: &ResumeArgs) -> anyhow::Result<ExitStatus> {
    let remote = Remote::new(&args.daemon)?;
    let told: ResumedDocument = remote.post("/api/v1/resume", ResumeRequest {}).await?.document()?;
    match &told.was_paused {
        Some(pause) => outln!("it goes on; it was paused {}", end(pause)),
        None => outln!("it was not paused"),
    }
    if told.returns_at_restart {
        outln!("a restart brings the pause back: the daemon cannot write to its state.dir");
    }
    Ok(ExitStatus::Done)
}

fn end(pause: &PauseDocument) -> String {
    pause.until.as_ref().map_or_else(|| "until told to go on".to_owned(), |until| format!("until {until}"))
}
