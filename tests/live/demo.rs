//! `evenkeel demo`: it tells its story to the end, and leaves nothing behind however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Evenkeel, Flavour, directory, eventually};

/// How long a demonstration may take; some 15 s on an idle machine.
const DEADLINE: Duration = Duration::from_mins(3);

/// A place for the demonstration's temporary files, and for nothing else.
fn place() -> TempDir {
    directory("demo")
}

fn demo(server: &Path, place: &TempDir) -> Evenkeel {
    let server = server.display().to_string();
    let place = place.path().display().to_string();
    Evenkeel::new(&["demo", "--keys", "20000", "--server", &server]).env("TMPDIR", &place).deadline(DEADLINE)
}

/// Everything that works in this directory: servers and daemon have their own directories below it.
fn processes_in(place: &TempDir) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
    // Links, on which the directory for tests may lie, are followed there.
    let place = place.path().canonicalize().expect("it is still there");
    let works_there = |process: &PathBuf| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&place));
    processes.map(|entry| entry.path()).filter(works_there).collect()
}

#[track_caller]
fn assert_nothing_is_left(place: &TempDir) {
    assert_eq!(processes_in(place), Vec::<PathBuf>::new());
    let files: Vec<_> = fs::read_dir(place).expect("it is still there").flatten().map(|entry| entry.path()).collect();
    assert_eq!(files, Vec::<PathBuf>::new());
}

/// The whole story on these servers.
fn check_the_story(flavour: Flavour) {
    let place = place();
    let mut demo = demo(&flavour.server(), &place).spawn();
    eventually("evenkeel's own status is served where it is said to be", DEADLINE, || {
        match demo.try_http_get("/api/v1/status") {
            Ok((200, _))
                if demo.stdout().contains(&format!("http://{}/  (a page for the browser)", demo.address())) =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(processes_in(&place).len(), 5, "four servers and the daemon");
    let status = demo.wait(DEADLINE);
    let said = demo.stdout();
    assert_eq!(status.code(), Some(0), "{said}\n{}", demo.stderr());
    for part in ["4,096 slots with", "errors: 0, lost: 0;", "20,000 of 20,000 keys hold what was written"] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    assert_nothing_is_left(&place);
}

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_on_valkey_9_1() {
    check_the_story(Flavour::Valkey91);
}

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_on_redis_6_2() {
    check_the_story(Flavour::Redis62);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let place = place();
    let mut demo = demo(&Flavour::Valkey91.server(), &place).spawn();
    eventually("slots are being moved", DEADLINE, || {
        let said = demo.stdout();
        if said.contains("/4,096 slots") { Ok(()) } else { Err(said) }
    });
    assert_eq!(processes_in(&place).len(), 5, "four servers and the daemon");
    demo.sigint();
    let status = demo.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(130), "{}\n{}", demo.stdout(), demo.stderr());
    assert_nothing_is_left(&place);
}

#[test]
fn a_killed_demo_leaves_no_process() {
    let place = place();
    let mut demo = demo(&Flavour::Valkey91.server(), &place).spawn();
    eventually("four servers and the daemon run", DEADLINE, || match processes_in(&place).len() {
        5 => Ok(()),
        running => Err(format!("{running} processes")),
    });
    demo.kill9();
    eventually("all of them are gone", Duration::from_secs(10), || match &processes_in(&place)[..] {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_program_that_is_no_server_is_told_as_such() {
    let place = place();
    let output = demo(Path::new("/bin/true"), &place).run_to_end();
    assert_eq!(output.status, Some(1), "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("not a Redis or Valkey"), "{}", output.stderr);
    assert_nothing_is_left(&place);
}
