//! Stories of a journal over several processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use expect_test::expect;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::file::COMPACT_AT;
use super::history::HISTORY_MAX;
use super::line::{self, Record};
use super::*;
use crate::cluster::Slot;

fn node(name: char) -> NodeId {
    name.to_string().repeat(40).parse().unwrap()
}

fn slots(text: &str) -> SlotSet {
    text.parse().unwrap()
}

/// `0-9 a b`: these slots from a to b, whose processes are of the same names.
fn opened(text: &str) -> Opened {
    let process = |name: &str| Process { node: node(name.chars().next().unwrap()), run_id: format!("run-{name}") };
    let words: Vec<&str> = text.split(' ').collect();
    let at = UNIX_EPOCH + Duration::from_millis(1_772_366_400_250);
    let (source_replicas, target_replicas) = (Vec::new(), Vec::new());
    let (source, target) = (process(words[1]), process(words[2]));
    Opened { slots: slots(words[0]), source, target, source_replicas, target_replicas, at }
}

/// `0-9 a b`: a move of these slots that ended well.
fn moved(text: &str) -> Moved {
    let Opened { slots, source, target, at, .. } = opened(text);
    let (why, outcome, took) = ("level by weight".to_owned(), "done".to_owned(), Duration::from_millis(2_041));
    let (keys, bytes_estimated) = (1_200, Some(98_304));
    Moved { slots, source: source.node, target: target.node, why, keys, bytes_estimated, took, outcome, at }
}

fn named(name: &str) -> NodeId {
    node(name.chars().next().unwrap())
}

/// Does what a line of a story says: `open 0-9 a b`, `close 0-4`, `move 0-9 a b`,
/// `so-far 0-9 a b`, `die`, `die in mid-write`,
/// `pause`, `pause 60`, `resume`, `drain a`,
/// `undrain a`, `import 0-9 a`, `import-nothing a`, `spoil write` (the next one fails, half-way), `fill disk` (so does everything until `free disk`).
fn act(journal: Option<Journal>, dir: &Path, line: &str) -> (Journal, Result<(), JournalError>) {
    let mut journal = journal.map_or_else(|| Journal::open(dir), Ok).unwrap();
    let done = match line.split_once(' ').unwrap_or((line, "")) {
        ("open", text) => journal.opened(opened(text)),
        ("close", text) => journal.closed(&slots(text)),
        ("move", text) => journal.moved(moved(text)),
        ("so-far", text) => journal.so_far(moved(text)),
        ("pause", "") => journal.paused(Some(Pause { since: UNIX_EPOCH, until: None })),
        ("pause", seconds) => {
            let until = UNIX_EPOCH + Duration::from_secs(seconds.parse().unwrap());
            journal.paused(Some(Pause { since: UNIX_EPOCH, until: Some(until) }))
        }
        ("resume", "") => journal.paused(None),
        ("drain", name) => journal.drained(Drain { node: named(name), since: UNIX_EPOCH }),
        ("undrain", name) => journal.undrained(named(name)),
        ("import", text) => {
            let (text, name) = text.split_once(' ').unwrap();
            journal.may_import(named(name), &slots(text))
        }
        ("import-nothing", name) => journal.imports_nothing(named(name)),
        ("spoil", "write") => {
            spoil_write(&mut journal, dir);
            Ok(())
        }
        ("fill", "disk") => {
            spoil_write(&mut journal, dir);
            fs::create_dir(dir.join("journal.jsonl.new")).unwrap();
            Ok(())
        }
        ("free", "disk") => {
            fs::remove_dir(dir.join("journal.jsonl.new")).unwrap();
            Ok(())
        }
        ("die", how) => {
            drop(journal);
            if how == "in mid-write" {
                append(dir, br#"{"closed":{"slots":"0-16383"}}"#);
            }
            journal = Journal::open(dir).unwrap();
            assert_eq!(journal.torn(), how == "in mid-write", "{line}");
            Ok(())
        }
        other => panic!("no such action: {other:?}"),
    };
    (journal, done)
}

fn spoil_write(journal: &mut Journal, dir: &Path) {
    append(dir, br#"{"closed":{"slo"#);
    journal.file.fill_disk();
}

fn append(dir: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(dir.join("journal.jsonl")).unwrap();
    file.write_all(bytes).unwrap();
}

/// `5-9 a>b, 20 b>c; 1 moved`
fn shown(journal: &Journal) -> String {
    let one = |opened: &Opened| {
        let name = |process: &Process| process.run_id.trim_start_matches("run-").to_owned();
        assert_eq!(node(name(&opened.source).chars().next().unwrap()), opened.source.node);
        format!("{} {}>{}", opened.slots, name(&opened.source), name(&opened.target))
    };
    let open: Vec<String> = journal.open_slots().map(one).collect();
    let paused = journal.pause().map_or_else(String::new, |pause| match pause.until {
        None => "; paused".to_owned(),
        Some(until) => format!("; paused for {} s", until.duration_since(pause.since).unwrap().as_secs()),
    });
    let short = |drain: &Drain| format!("; {} drained", &drain.node.to_string()[..1]);
    let drained: String = journal.drains().map(short).collect();
    let imports =
        journal.imports().iter().map(|(node, slots)| format!("; {} may import {slots}", &node.to_string()[..1]));
    let imports: String = imports.collect();
    format!("{}; {} moved{paused}{drained}{imports}", open.join(", "), journal.history().iter().count())
}

/// A story, and what the journal says at its end and to the next process. A line that begins with `!` fails, and leaves
/// half a line behind.
fn check(story: &[&str], expect: &str) {
    let dir = tempdir().unwrap();
    let mut journal = None;
    for line in story {
        let (after, done) = act(journal, dir.path(), line.trim_start_matches('!'));
        assert_eq!(done.is_err(), line.starts_with('!'), "{line}: {done:?}");
        journal = Some(after);
    }
    assert_eq!(shown(journal.as_ref().unwrap()), expect, "{story:?}");
    drop(journal);
    let next = Journal::open(dir.path()).unwrap();
    let torn = story.last().unwrap().starts_with('!');
    assert_eq!((shown(&next).as_str(), next.torn()), (expect, torn), "the next process, {story:?}");
}

#[test]
fn what_was_opened_and_not_closed_is_ours_in_the_next_process() {
    check(&["open 0-9 a b"], "0-9 a>b; 0 moved");
    check(&["open 0-9 a b", "close 0-4", "open 20 b c"], "5-9 a>b, 20 b>c; 0 moved");
    check(&["open 0-9 a b", "open 20 b c", "close 3-30", "close 0-2"], "; 0 moved");
    check(&["open 0-9 a b", "die", "close 0-8", "die", "die"], "9 a>b; 0 moved");
}

#[test]
fn a_slot_opened_again_belongs_to_the_later_record() {
    check(&["open 0-9 a b", "open 5-6 a c"], "0-4,7-9 a>b, 5-6 a>c; 0 moved");
    check(&["open 0-9 a b", "open 0-9 a c", "close 9"], "0-8 a>c; 0 moved");
}

#[test]
fn a_move_is_history_and_closes_nothing() {
    check(&["open 0-9 a b", "move 0-9 a b"], "0-9 a>b; 1 moved");
    check(&["open 0-9 a b", "move 0-9 a b", "close 0-9", "die", "move 3 b a"], "; 2 moved");
}

/// The slots of the history after these lines and a death, oldest first.
fn check_history(story: &[&str], expect: &str) {
    let dir = tempdir().unwrap();
    let mut journal = None;
    for line in story.iter().chain(&["die"]) {
        journal = Some(act(journal, dir.path(), line.trim_start_matches('!')).0);
    }
    let of_move = |moved: &Moved| {
        let name = |node: NodeId| node.to_string()[..1].to_owned();
        format!("{} {}>{}", moved.slots, name(moved.source), name(moved.target))
    };
    let history: Vec<String> = journal.unwrap().history().iter().map(of_move).collect();
    assert_eq!(history.join(", "), expect, "{story:?}");
}

#[test]
fn a_move_that_died_with_its_process_is_history_as_far_as_it_had_come() {
    check_history(&["so-far 0-9 a b"], "0-9 a>b");
    check_history(&["so-far 0-9 a b", "so-far 20 a b", "so-far 5 b c"], "0-9,20 a>b, 5 b>c");
    check_history(&["so-far 0-9 a b", "move 0-9 a b"], "0-9 a>b");
    check_history(&["so-far 0-9 a b", "move 0-9 a b", "so-far 20 a b"], "0-9 a>b, 20 a>b");
    check_history(&["so-far 0-9 a b", "die", "so-far 20 a b", "die", "move 21 a b"], "0-9 a>b, 20 a>b, 21 a>b");
    check_history(
        &["move 7 b c", "so-far 0-9 a b", "spoil write", "!so-far 20 a b", "so-far 21 a b"],
        "7 b>c, 0-9,21 a>b",
    );
    // A file that is begun anew keeps what has not ended, and its last record alone ends it.
    check_history(&["move 1 a b", "so-far 0-9 a b", "spoil write", "!move 0-9 a b", "pause"], "1 a>b, 0-9 a>b");
}

#[test]
fn a_pause_is_there_until_it_is_ended_whoever_runs() {
    check(&["pause"], "; 0 moved; paused");
    check(&["pause", "die", "open 0-9 a b", "die"], "0-9 a>b; 0 moved; paused");
    check(&["pause", "pause 60"], "; 0 moved; paused for 60 s");
    check(&["pause 60", "die", "pause", "die"], "; 0 moved; paused");
    check(&["pause", "resume"], "; 0 moved");
    check(&["pause", "die", "resume", "die"], "; 0 moved");
    check(&["spoil write", "!pause"], "; 0 moved");
    check(&["pause", "spoil write", "!resume"], "; 0 moved; paused");
}

#[test]
fn a_drain_is_on_record_until_it_ends() {
    check(&["drain a", "drain b", "die", "drain a", "die"], "; 0 moved; a drained; b drained");
    check(&["drain a", "pause", "undrain a", "die"], "; 0 moved; paused");
    check(&["drain a", "spoil write", "!undrain a"], "; 0 moved; a drained");
}

#[test]
fn what_a_silent_node_may_import_is_on_record_until_it_is_seen_without() {
    check(&["open 0-9 a b", "import 0-4 b", "close 0-4", "die"], "5-9 a>b; 0 moved; b may import 0-4");
    check(
        &["import 0-4 b", "import 7 b", "import 5 c", "die", "import 3 b"],
        "; 0 moved; b may import 0-4,7; c may import 5",
    );
    check(&["import 0-4 b", "die", "import-nothing b", "import-nothing c", "die"], "; 0 moved");
    check(&["import 0-4 b", "spoil write", "!import-nothing b"], "; 0 moved; b may import 0-4");
}

#[test]
fn a_journal_of_an_older_version_is_read_and_written_anew() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let closed = line::write(&Record::Closed { slots: slots("1") });
    fs::write(&path, format!("{{\"evenkeel_journal\":1}}\n{closed}")).unwrap();
    drop(Journal::open(dir.path()).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), line::header());
    assert_eq!(line::header(), "{\"evenkeel_journal\":6}\n");
}

#[test]
fn a_move_of_the_version_before_bytes_were_counted_is_read_without_them() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let before = Moved { bytes_estimated: None, ..moved("0-9 a b") };
    let line = line::write(&Record::Moved(before.clone()));
    assert!(!line.contains("bytes"), "{line}");
    fs::write(&path, format!("{{\"evenkeel_journal\":3}}\n{line}")).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().history().iter().collect::<Vec<_>>(), [&before]);
}

#[test]
fn half_a_line_is_dropped_and_nothing_is_written_behind_it() {
    check(&["open 0-9 a b", "die in mid-write"], "0-9 a>b; 0 moved");
    check(&["open 0-9 a b", "die in mid-write", "close 0-4", "die in mid-write", "close 5"], "6-9 a>b; 0 moved");
}

#[test]
fn what_a_full_disk_refused_does_not_count_and_what_comes_after_does() {
    check(&["open 0-9 a b", "spoil write", "!open 20 b c"], "0-9 a>b; 0 moved");
    check(&["open 0-9 a b", "spoil write", "!close 0-4", "open 20 b c", "close 9"], "0-8 a>b, 20 b>c; 0 moved");
    check(
        &["open 0-9 a b", "spoil write", "!move 0 a b", "close 0-4", "spoil write", "!open 5 a c"],
        "5-9 a>b; 0 moved",
    );
    check(&["open 0-9 a b", "fill disk", "!close 0-4", "!open 20 b c", "free disk", "close 9"], "0-8 a>b; 0 moved");
}

#[test]
fn a_process_that_dies_at_any_byte_of_the_file_leaves_a_journal_of_the_whole_lines() {
    let story = ["open 0-9 a b", "close 0-4", "move 0-4 a b", "open 20 b c"];
    let states = ["; 0 moved", "; 0 moved", "0-9 a>b; 0 moved", "5-9 a>b; 0 moved", "5-9 a>b; 1 moved"];
    let dir = tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let mut journal = Journal::open(dir.path()).ok();
    for line in story {
        journal = Some(act(journal, dir.path(), line).0);
    }
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let lines = whole[..len].split(|&byte| byte == b'\n').count() - 1;
        assert_eq!(shown(&journal), states[lines], "{len} bytes");
        assert_eq!(journal.torn(), len > 0 && whole[len - 1] != b'\n', "{len} bytes");
        journal.moved(moved("7 a b")).unwrap();
        drop(journal);
        let next = Journal::open(dir.path()).unwrap();
        assert!(!next.torn() && next.history().iter().last().unwrap().slots == slots("7"), "{len} bytes");
    }
}

#[test]
fn two_processes_never_share_a_directory() {
    let dir = tempdir().unwrap();
    let first = Journal::open(dir.path()).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }));
    assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{error}");
    drop(first);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn each_process_learns_the_name_of_the_one_before() {
    let dir = tempdir().unwrap();
    let sign = |name| Journal::open(dir.path()).unwrap().sign(name).unwrap();
    assert_eq!(sign("the first, of a long name"), None);
    assert_eq!(sign("second").as_deref(), Some("the first, of a long name"));
    assert_eq!(sign("third").as_deref(), Some("second"));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempdir().unwrap();
    let check = |dir: &Path, what: &str| {
        let error = Journal::open(dir).unwrap_err();
        assert!(matches!(error, JournalError::Unusable { .. }));
        let (text, dir) = (error.to_string(), dir.to_string_lossy());
        assert!(text.starts_with(what) && text.contains(&*dir) && text.contains("state.dir must be"), "{text}");
    };
    fs::write(dir.path().join("file"), "").unwrap();
    check(&dir.path().join("file"), "cannot make");
    check(&dir.path().join("not/mounted"), "cannot make");
    // A directory in the way stands for one that cannot be written to, which a test that runs as root can always do.
    fs::create_dir_all(dir.path().join("state/journal.jsonl.new")).unwrap();
    check(&dir.path().join("state"), "cannot write");
    fs::remove_dir(dir.path().join("state/journal.jsonl.new")).unwrap();
    Journal::open(&dir.path().join("state")).unwrap();
    Journal::open(&dir.path().join("new")).unwrap();
}

/// What opening a file with this text fails with; the file must be left as it is.
fn fault(text: &str) -> String {
    let dir = tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    fs::write(&path, text).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{error}");
    error.to_string().replace(&*path.to_string_lossy(), "FILE")
}

#[test]
fn a_journal_of_a_newer_version_is_left_alone() {
    expect!["FILE is a journal of version 7, this evenkeel reads up to 6: run the newer evenkeel, or move the file away (open slots then count as somebody else's until they are adopted)"]
    .assert_eq(&fault("{\"evenkeel_journal\":7,\"by\":\"3.0\"}\n{\"later\":{}}\n"));
}

#[test]
fn a_damaged_line_is_named_and_the_file_left_alone() {
    let (header, good) = (line::header(), line::write(&Record::Closed { slots: slots("1") }));
    let check = |text: String, starts: &str| {
        let error = fault(&text);
        assert!(error.starts_with(starts) && error.contains("remove the line"), "{error}");
    };
    check(format!("{header}{good}{{\"closed\":{{\"slo\n{good}"), "line 3 of FILE is damaged (EOF while parsing");
    check(format!("{header}{good}{}", good.replace('1', "x")), "line 3 of FILE is damaged (`x` is not a slot");
    check(
        format!("{header}{}{good}", good.replace("}}", ",\"b\":1}}")),
        "line 2 of FILE is damaged (unknown field `b`",
    );
    check(format!("{header}\n{good}"), "line 2 of FILE is damaged (EOF");
    check(good, "line 1 of FILE is damaged (it is not the first line of a journal of evenkeel)");
    check(header.replace('6', "0"), "line 1 of FILE is damaged (it is not the first line");
    check("dear diary".to_owned(), "line 1 of FILE is damaged (it is not the first line");
}

#[test]
fn the_file_is_text_that_an_operator_can_read() {
    let dir = tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.opened(opened("0-9,866 a b")).unwrap();
    journal.closed(&slots("3-16383")).unwrap();
    journal.moved(Moved { outcome: "left: no answer".to_owned(), ..moved("3-9,866 a b") }).unwrap();
    expect![[r#"
        {"evenkeel_journal":6}
        {"opened":{"at":"2026-03-01T12:00:00.25Z","slots":"0-9,866","source":{"node":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"run-a"},"target":{"node":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","run_id":"run-b"}}}
        {"closed":{"slots":"3-9,866"}}
        {"moved":{"at":"2026-03-01T12:00:00.25Z","slots":"3-9,866","source":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","target":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","why":"level by weight","keys":1200,"bytes_estimated":98304,"took":"2s 41ms","outcome":"left: no answer"}}
    "#]].assert_eq(&fs::read_to_string(dir.path().join("journal.jsonl")).unwrap());
}

#[test]
fn what_changes_nothing_is_not_written() {
    let dir = tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.closed(&slots("0-9")).unwrap();
    journal.opened(Opened { slots: SlotSet::new(), ..opened("0 a b") }).unwrap();
    journal.imports_nothing(node('a')).unwrap();
    journal.may_import(node('a'), &SlotSet::new()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("journal.jsonl")).unwrap(), line::header());
}

fn len(dir: &TempDir) -> u64 {
    fs::metadata(dir.path().join("journal.jsonl")).unwrap().len()
}

#[test]
fn the_file_stays_small_and_keeps_open_slots_and_the_latest_moves() {
    let dir = tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.opened(opened("0-9 a b")).unwrap();
    let one = line::write(&Record::Moved(moved("1 a b"))).len() as u64;
    let moves = 2 * COMPACT_AT / one;
    let (mut before, mut compactions) = (0, 0);
    for number in 0..moves {
        journal.moved(Moved { keys: number, ..moved("1 a b") }).unwrap();
        compactions += usize::from(len(&dir) < before);
        before = len(&dir);
        assert!(before <= COMPACT_AT + one, "{before}");
    }
    assert!(compactions >= 1);
    let check = |journal: &Journal| {
        assert_eq!(shown(journal), format!("0-9 a>b; {HISTORY_MAX} moved"));
        assert!(journal.history().iter().map(|moved| moved.keys).eq(moves - HISTORY_MAX as u64..moves));
    };
    check(&journal);
    drop(journal);
    check(&Journal::open(dir.path()).unwrap());
    assert!(len(&dir) < (HISTORY_MAX as u64 + 5) * one);
}

#[test]
fn records_that_are_long_themselves_do_not_make_every_write_begin_the_file_anew() {
    let dir = tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let long = || Moved { why: "w".repeat(64 * 1024), ..moved("1 a b") };
    let mut compactions = 0;
    for _ in 0..50 {
        let before = len(&dir);
        journal.moved(long()).unwrap();
        // Nothing is dropped yet: beginning anew shows only in that the file's length limit has grown.
        compactions += usize::from(before > COMPACT_AT && journal.file.limit() == 2 * before);
    }
    assert_eq!((journal.history().iter().count(), compactions), (50, 2), "beyond 1 and 2 MiB");
}

fn any_slots() -> impl Strategy<Value = SlotSet> {
    prop::collection::vec((0u16..64).prop_map(|number| Slot::new(number).unwrap()), 0..6).prop_map(SlotSet::from_iter)
}

fn any_record() -> impl Strategy<Value = Record> {
    let at = || {
        (0i64..=250_000_000_000, 0u32..1_000_000_000).prop_map(|(s, n)| UNIX_EPOCH + Duration::new(s.unsigned_abs(), n))
    };
    let opened = (any_slots(), any::<String>(), any::<String>(), at()).prop_map(|(slots, one, other, at)| {
        let process = |name, run_id| Process { node: node(name), run_id };
        let (source_replicas, target_replicas) = (vec![process('c', String::new()).node], Vec::new());
        let (source, target) = (process('a', one), process('b', other));
        Record::Opened(Opened { slots, source, target, source_replicas, target_replicas, at })
    });
    let closed = any_slots().prop_map(|slots| Record::Closed { slots });
    let moved = (any_slots(), any::<(String, u64, Option<u64>, Duration, String)>(), at(), any::<bool>());
    let moved = moved.prop_map(|(slots, (why, keys, bytes_estimated, took, outcome), at, ended)| {
        let (source, target) = (node('a'), node('b'));
        let moved = Moved { slots, source, target, why, keys, bytes_estimated, took, outcome, at };
        if ended { Record::Moved(moved) } else { Record::SoFar(moved) }
    });
    prop_oneof![opened, closed, moved]
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(records in prop::collection::vec(any_record(), 0..5)) {
        let text: String = std::iter::once(line::header()).chain(records.iter().map(line::write)).collect();
        prop_assert_eq!(text.lines().count(), records.len() + 1);
        let read = line::read(text.as_bytes()).unwrap();
        prop_assert_eq!((read.records, read.torn), (records, false));
    }

    #[test]
    fn the_journal_agrees_with_a_table_of_slots_whenever_the_process_dies(
        actions in prop::collection::vec((0u8..6, any_slots(), prop::char::range('a', 'f')), 1..20),
    ) {
        let dir = tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let (mut table, mut history) = (BTreeMap::new(), Vec::new());
        for (action, slots, target) in actions {
            match action {
                0 | 1 => {
                    table.extend(slots.iter().map(|slot| (slot, node(target))));
                    journal.opened(Opened { slots, ..opened(&format!("0 a {target}")) }).unwrap();
                }
                2 | 3 => {
                    table.retain(|slot, _| !slots.contains(*slot));
                    journal.closed(&slots).unwrap();
                }
                4 => {
                    let moved = Moved { slots, ..moved(&format!("0 a {target}")) };
                    history.push(moved.clone());
                    journal.moved(moved).unwrap();
                }
                _ => {
                    drop(journal);
                    journal = Journal::open(dir.path()).unwrap();
                }
            }
            let open = journal.open_slots().flat_map(|one| one.slots.iter().map(|slot| (slot, one.target.node)));
            let open: Vec<_> = open.collect();
            prop_assert_eq!(open.len(), table.len(), "no slot is in two records");
            prop_assert_eq!(&open.into_iter().collect::<BTreeMap<_, _>>(), &table);
            prop_assert!(journal.history().iter().eq(&history));
        }
    }
}
