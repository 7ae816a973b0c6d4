//! Clusters for tests, told in a few lines and turned into the texts that servers would send.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Address, JobKind, NodeId, NodeInfo, NodeView, Observation, Observed, ServerJob, Silent};

/// The id of a node called by a few hexadecimal digits: these, repeated to forty.
pub(crate) fn id(name: &str) -> NodeId {
    name.repeat(40)[..40].parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What is observed of a cluster that is told in lines like these:
///
/// ```text
/// a 0-9 [5->-b]                 every node's line about a; the mark only on a's own
/// b 10-16383 epoch=7 host=b.example
/// b1 of b                       a replica
/// c says a fail? 0-9            c's line about a is another one
/// c says no b                   c does not know b
/// c says handshake              c shakes hands with somebody
/// a info loading:1              a field of a's INFO or CLUSTER INFO
/// c silent timed out            c does not answer, and why
/// b1 unasked                    nor does b1, which was not asked
/// a job d 0-9 snapshotting      a gives d these slots by a job of its own, and is so far
/// a jobs refused                a's jobs cannot be read, and why
/// d alone                       d's view holds only its own lines
/// ```
///
/// Addresses are 10.0.0.1, 10.0.0.2 … in the order of the lines, config epochs 1, 2 … likewise.
pub(crate) fn observation(story: &str) -> Observation {
    let mut told = Told::default();
    story.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| told.line(line));

    let mut observation = Observation::default();
    for (name, line) in &told.lines {
        if let Some(why) = told.silent.get(name) {
            let silent = Silent { address: Some(line.dialled.clone()), why: why.clone() };
            observation.silent.insert(id(name), silent);
        } else if !told.unasked.contains(name) {
            let view = told.cluster_nodes(name);
            let view = NodeView::parse(&view).unwrap_or_else(|error| panic!("{error}:\n{view}"));
            let info = told.info(name);
            let info = NodeInfo::parse(&info, &info).unwrap_or_else(|error| panic!("{error}:\n{info}"));
            observation.nodes.insert(id(name), Observed { dialled: line.dialled.clone(), view, info });
        }
    }
    observation.jobs = told.jobs();
    observation
}

/// The text with the names of the story in place of short ids.
pub(crate) fn with_names(text: &str, observation: &Observation) -> String {
    let views = observation.nodes.values().flat_map(|observed| observed.view.lines().map(|line| line.id));
    let ids = views.chain(observation.silent.keys().copied());
    ids.fold(text.to_owned(), |text, id| text.replace(&id.short(), name(&id.short())))
}

/// The digits that a short id repeats.
fn name(short: &str) -> &str {
    let repeats = |digits: &usize| short[..*digits].repeat(8).starts_with(short);
    &short[..(1..8).find(repeats).unwrap_or(8)]
}

#[derive(Default)]
struct Told {
    /// By name, in the order of the names (that of the ids).
    lines: BTreeMap<String, Line>,
    /// What one node (first) says of another (second), where that is its own; `None` when it does not know it.
    says: BTreeMap<(String, String), Option<Line>>,
    handshakes: Vec<String>,
    info: Vec<(String, String)>,
    silent: BTreeMap<String, String>,
    /// Who gives, and to whom, what, how far.
    jobs: Vec<(String, String)>,
    jobs_unread: BTreeMap<String, String>,
    unasked: Vec<String>,
    alone: Vec<String>,
}

/// A line of `CLUSTER NODES`, in parts.
#[derive(Clone)]
struct Line {
    dialled: Address,
    announced: String,
    hostname: Option<String>,
    flags: String,
    primary: Option<String>,
    epoch: String,
    link: String,
    slots: Vec<String>,
    markers: Vec<String>,
}

impl Told {
    fn line(&mut self, line: &str) {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let name = name.to_owned();
        let (verb, words) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "says" => match words.split_once(' ').unwrap_or((words, "")) {
                ("handshake", _) => self.handshakes.push(name),
                ("no", other) => drop(self.says.insert((name, other.to_owned()), None)),
                (other, words) => {
                    let line = Line::told(words, &self.lines[other]);
                    self.says.insert((name, other.to_owned()), Some(line));
                }
            },
            "info" => self.info.push((name, words.to_owned())),
            "job" => self.jobs.push((name, words.to_owned())),
            "jobs" => drop(self.jobs_unread.insert(name, words.to_owned())),
            "silent" => drop(self.silent.insert(name, words.to_owned())),
            "unasked" => self.unasked.push(name),
            "alone" => self.alone.push(name),
            _ => {
                let number = self.lines.len() + 1;
                let line = Line::told(rest, &Line::numbered(number));
                self.lines.insert(name, line);
            }
        }
    }

    /// A job is told of by both its ends.
    fn jobs(&self) -> BTreeMap<NodeId, Result<Vec<ServerJob>, String>> {
        let mut jobs: BTreeMap<NodeId, Result<Vec<ServerJob>, String>> = BTreeMap::new();
        for (source, words) in &self.jobs {
            let [target, slots, state] = words.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{words}") };
            let job = ServerJob {
                source: Some(id(source)),
                target: Some(id(target)),
                slots: slots.parse().unwrap_or_else(|error| panic!("{slots}: {error}")),
                kind: JobKind::MigrateSlots,
                state: state.to_owned(),
                message: String::new(),
            };
            for end in [source.as_str(), target] {
                jobs.entry(id(end)).or_insert_with(|| Ok(Vec::new())).as_mut().unwrap().push(job.clone());
            }
        }
        jobs.extend(self.jobs_unread.iter().map(|(name, why)| (id(name), Err(why.clone()))));
        jobs
    }

    fn cluster_nodes(&self, speaker: &str) -> String {
        let mut text = String::new();
        for (name, usual) in &self.lines {
            let said = self.says.get(&(speaker.to_owned(), name.clone()));
            let stranger = name != speaker && self.alone.iter().any(|alone| alone == speaker || alone == name);
            match said {
                Some(None) => {}
                None if stranger => {}
                Some(Some(line)) => line.write(&mut text, name, name == speaker),
                None => usual.write(&mut text, name, name == speaker),
            }
        }
        for _ in self.handshakes.iter().filter(|name| *name == speaker) {
            let stranger = id("0123456789");
            let _ = writeln!(text, "{stranger} 10.0.9.9:6379@16379 handshake - 1 0 0 disconnected");
        }
        text
    }

    /// `INFO` and `CLUSTER INFO` in one: no field is in both.
    fn info(&self, name: &str) -> String {
        let said = self.says.get(&(name.to_owned(), name.to_owned()));
        let line = said.and_then(Option::as_ref).unwrap_or(&self.lines[name]);
        let role = if line.primary.is_some() { "slave" } else { "master" };
        let mut text = format!(
            "run_id:{}\nredis_version:7.0.15\nrole:{role}\nmaxmemory_policy:noeviction\ncluster_state:ok\n\
             cluster_current_epoch:9\n",
            id(name)
        );
        // Of a field that stands twice, the last counts.
        for (_, field) in self.info.iter().filter(|(of, _)| of == name) {
            text.push_str(field);
            text.push('\n');
        }
        text
    }
}

impl Line {
    fn numbered(number: usize) -> Self {
        let host = format!("10.0.0.{number}");
        Self {
            announced: format!("{host}:6379@16379"),
            dialled: Address::new(host, 6379),
            hostname: None,
            flags: String::new(),
            primary: None,
            epoch: number.to_string(),
            link: "connected".to_owned(),
            slots: Vec::new(),
            markers: Vec::new(),
        }
    }

    /// The line that these words tell; address and epoch are the usual ones unless they say otherwise.
    fn told(words: &str, usual: &Self) -> Self {
        let mut line =
            Self { flags: String::new(), primary: None, slots: Vec::new(), markers: Vec::new(), ..usual.clone() };
        let mut words = words.split_whitespace();
        while let Some(word) = words.next() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("of", _) => line.primary = words.next().map(str::to_owned),
                ("epoch", epoch) => epoch.clone_into(&mut line.epoch),
                ("host", host) => line.hostname = Some(host.to_owned()),
                ("at", announced) => announced.clone_into(&mut line.announced),
                ("fail?" | "fail" | "noaddr", _) => line.flags = format!(",{word}"),
                ("disconnected", _) => word.clone_into(&mut line.link),
                _ if word.starts_with('[') => line.markers.push(word.to_owned()),
                _ => line.slots.push(word.to_owned()),
            }
        }
        line
    }

    fn write(&self, text: &mut String, name: &str, myself: bool) {
        let hostname = self.hostname.as_ref().map_or_else(String::new, |name| format!(",{name}"));
        let role = if self.primary.is_some() { "slave" } else { "master" };
        let (myself, markers) = if myself { ("myself,", self.markers.as_slice()) } else { ("", [].as_slice()) };
        let primary = self.primary.as_ref().map_or_else(|| "-".to_owned(), |name| id(name).to_string());
        let (announced, flags, epoch, link) = (&self.announced, &self.flags, &self.epoch, &self.link);
        let _ = write!(text, "{} {announced}{hostname} {myself}{role}{flags} {primary} 0 0 {epoch} {link}", id(name));
        for slots in &self.slots {
            let _ = write!(text, " {slots}");
        }
        for marker in markers {
            let (start, name) = marker.trim_end_matches(']').rsplit_once('-').expect("an arrow");
            let _ = write!(text, " {start}-{}]", id(name));
        }
        text.push('\n');
    }
}
