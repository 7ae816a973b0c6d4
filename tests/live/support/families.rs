//! The keys that a data set holds besides the plain ones: odd names, other types, keys that expire.

use evenkeel::cluster::{Slot, SlotSet};
use redis::Cmd;

/// A key, and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) holds: Holds,
    /// Whether it expires [`LIFETIME_MS`] after it was written.
    pub(super) expires: bool,
}

/// A value by its type; each in an order in which the server may be asked for it.
#[derive(Clone, Debug)]
pub(super) enum Holds {
    Text(Vec<u8>),
    List(Vec<String>),
    Hash(Vec<(String, String)>),
    Set(Vec<String>),
    SortedSet(Vec<(String, usize)>),
    Stream(Vec<(String, String)>),
}

/// An hour: longer than any test, so that a key that is gone was lost.
pub(super) const LIFETIME_MS: i64 = 3_600_000;

impl Entry {
    pub(super) fn text(key: impl Into<Vec<u8>>) -> Self {
        let key = key.into();
        let holds = Holds::Text([b"value of ", key.as_slice()].concat());
        Self { key, holds, expires: false }
    }

    pub(super) fn slot(&self) -> Slot {
        Slot::of_key(&self.key)
    }

    /// The commands that write it.
    pub(super) fn write(&self) -> Vec<Cmd> {
        let mut commands = match &self.holds {
            Holds::Text(text) => vec![self.command("SET", |command| command.arg(text))],
            Holds::List(items) => vec![self.command("RPUSH", |command| command.arg(items))],
            Holds::Hash(fields) => vec![self.command("HSET", |command| command.arg(fields))],
            Holds::Set(items) => vec![self.command("SADD", |command| command.arg(items))],
            Holds::SortedSet(items) => {
                items.iter().map(|(item, score)| self.command("ZADD", |command| command.arg(score).arg(item))).collect()
            }
            Holds::Stream(items) => items
                .iter()
                .map(|(id, text)| self.command("XADD", |command| command.arg(id).arg("text").arg(text)))
                .collect(),
        };
        if self.expires {
            commands.push(self.command("PEXPIRE", |command| command.arg(LIFETIME_MS)));
        }
        commands
    }

    /// The command that reads all of it.
    pub(super) fn read(&self) -> Cmd {
        match &self.holds {
            Holds::Text(_) => self.command("GET", |command| command),
            Holds::List(_) => self.command("LRANGE", |command| command.arg(0).arg(-1)),
            Holds::Hash(_) => self.command("HGETALL", |command| command),
            Holds::Set(_) => self.command("SMEMBERS", |command| command),
            Holds::SortedSet(_) => self.command("ZRANGE", |command| command.arg(0).arg(-1).arg("WITHSCORES")),
            Holds::Stream(_) => self.command("XRANGE", |command| command.arg("-").arg("+")),
        }
    }

    /// The command that reads how many milliseconds it still lives.
    pub(super) fn read_lifetime(&self) -> Cmd {
        self.command("PTTL", |command| command)
    }

    /// The strings in the reply to [`Self::read`], in [`Self::order`].
    pub(super) fn expected(&self) -> Vec<Vec<u8>> {
        let pair = |(a, b): &(String, String)| [a.clone().into_bytes(), b.clone().into_bytes()];
        let strings = match &self.holds {
            Holds::Text(text) => vec![text.clone()],
            Holds::List(items) | Holds::Set(items) => items.iter().map(|item| item.clone().into_bytes()).collect(),
            Holds::Hash(fields) => fields.iter().flat_map(pair).collect(),
            Holds::SortedSet(items) => {
                items.iter().flat_map(|(item, score)| pair(&(item.clone(), score.to_string()))).collect()
            }
            Holds::Stream(items) => {
                let item = |(id, text): &(String, String)| [id.clone(), "text".to_owned(), text.clone()];
                items.iter().flat_map(item).map(String::into_bytes).collect()
            }
        };
        self.order(strings)
    }

    /// Sorts the strings of a reply whose order means nothing.
    pub(super) fn order(&self, mut strings: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self.holds {
            Holds::Hash(_) | Holds::Set(_) => strings.sort_unstable(),
            Holds::Text(_) | Holds::List(_) | Holds::SortedSet(_) | Holds::Stream(_) => {}
        }
        strings
    }

    fn command(&self, name: &str, arguments: impl Fn(&mut Cmd) -> &mut Cmd) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&self.key);
        arguments(&mut command);
        command
    }
}

/// The names by which a client library may take a list of keys for a message of publish/subscribe, when they come
/// first in a list of three to five; and how many keys share the slot of each (so lists of one to five).
const LOOK_ALIKES: [(&str, usize); 8] = [
    ("message", 2),
    ("pmessage", 3),
    ("smessage", 2),
    ("subscribe", 2),
    ("psubscribe", 4),
    ("unsubscribe", 3),
    ("punsubscribe", 0),
    ("sunsubscribe", 1),
];

/// The slots that hold the look-alike names and their few companions, and that no other key of these tests is in:
/// a list of more keys would not be mistaken.
pub(crate) fn look_alike_slots() -> SlotSet {
    LOOK_ALIKES.iter().map(|(name, _)| Slot::of_key(name.as_bytes())).collect()
}

/// All special keys. Those outside the look-alike slots may share a slot with any other key.
pub(super) fn special() -> Vec<Entry> {
    let taken = look_alike_slots();
    let mut entries = binary_names();
    entries.extend(other_types());
    entries.retain(|entry| !taken.contains(entry.slot()));
    entries.extend(look_alikes());
    entries
}

fn look_alikes() -> Vec<Entry> {
    let family = |(name, companions): (&'static str, usize)| {
        let companions = (0..companions).map(move |number| Entry::text(format!("{{{name}}}{number}")));
        // Last, because Redis 7 lists a slot's newest key first; 6.2 lists the keys by their bytes, a letter before
        // a brace.
        companions.chain([Entry::text(name)])
    };
    LOOK_ALIKES.into_iter().flat_map(family).collect()
}

/// Names with every byte value, line ends and invalid UTF-8 in them, and the empty name.
fn binary_names() -> Vec<Entry> {
    let each_byte =
        (0..=u8::MAX).map(|byte| Entry::text([b"binary:".as_slice(), &[byte, 0, b'\r', b'\n', byte]].concat()));
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let long = b"long name ".repeat(40);
    let odd = [Vec::new(), all_bytes, long, b"\xff\xfe\x80".to_vec(), b"$5\r\nhello\r\n".to_vec()];
    each_byte.chain(odd.into_iter().map(Entry::text)).collect()
}

fn other_types() -> Vec<Entry> {
    // The small ones are stored as one packed string, the big ones as what their type is named after.
    let sizes = [1, 3, 20, 1000];
    let items = |size| (0..size).map(|number| format!("item {number}")).collect::<Vec<_>>();
    let pairs = |size| (0..size).map(|number| (format!("field {number}"), format!("content {number}"))).collect();
    let scores = |size| (0..size).map(|number| (format!("item {number:04}"), number)).collect();
    let stream = |size| (1..=size).map(|number| (format!("{number}-1"), format!("event {number}"))).collect();
    let mut entries = Vec::new();
    for size in sizes {
        for expires in [false, true] {
            let kinds = [
                ("text", Holds::Text(b"x".repeat(size * 100))),
                ("list", Holds::List(items(size))),
                ("hash", Holds::Hash(pairs(size))),
                ("set", Holds::Set(items(size))),
                ("sorted set", Holds::SortedSet(scores(size))),
                ("stream", Holds::Stream(stream(size))),
            ];
            entries.extend(kinds.into_iter().map(|(kind, holds)| {
                let key = format!("{kind} of {size}{}", if expires { ", expires" } else { "" });
                Entry { key: key.into_bytes(), holds, expires }
            }));
        }
    }
    entries
}
