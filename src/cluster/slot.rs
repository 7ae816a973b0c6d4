//! Slots, ranges of slots and sets of slots.

use std::cmp::Ordering;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use thiserror::Error;

/// One of the 16,384 hash slots of a cluster.
///
/// The number is always below [`Slot::COUNT`]; there is no way to make another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// How many slots a cluster has (fixed by the cluster specification).
    pub const COUNT: usize = 16_384;
    /// The highest slot.
    pub const LAST: Slot = Slot(16_383);

    /// The slot of this number, or `None` from 16,384 up.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The slot of a key: CRC16 of the key, or of its hash tag where it has one, modulo 16,384.
    ///
    /// A hash tag is what stands between the first `{` and the first `}` after it, if that is not empty (cluster
    /// specification, "Hash tags").
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16::State::<crc16::XMODEM>::calculate(hash_tag(key)) & (Self::LAST.0))
    }

    /// A key of the slot: the smallest number whose decimal digits are one.
    #[must_use]
    pub fn a_key(self) -> String {
        static KEYS: LazyLock<Vec<u32>> = LazyLock::new(|| {
            let mut keys = vec![None; Slot::COUNT];
            let mut left = Slot::COUNT;
            for number in 0.. {
                let key = &mut keys[Slot::of_key(number.to_string().as_bytes()).index()];
                left -= usize::from(key.is_none());
                key.get_or_insert(number);
                if left == 0 {
                    break;
                }
            }
            keys.into_iter().flatten().collect()
        });
        KEYS[self.index()].to_string()
    }

    /// The slot's number, 0 to 16,383.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot's number as an index into a table of [`Slot::COUNT`] entries.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots, in ascending order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (0..=Self::LAST.0).map(Slot)
    }
}

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let after = &key[open + 1..];
    match after.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &after[..close],
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that names no slots.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotTextError {
    /// Not a number from 0 to 16,383.
    #[error("`{0}` is not a slot: slots are the numbers 0 to 16383")]
    NotASlot(String),
    /// The first slot of a range lies above its last.
    #[error("`{0}` is not a range: its first slot is above its last")]
    Reversed(String),
}

impl FromStr for Slot {
    type Err = SlotTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SlotTextError::NotASlot(text.to_owned());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        text.parse().ok().and_then(Self::new).ok_or_else(error)
    }
}

/// Slots from `start` to `end`, both included; `start` is never above `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    start: Slot,
    end: Slot,
}

impl SlotRange {
    /// The range from `start` to `end`, both included, or `None` when `start` is above `end`.
    #[must_use]
    pub fn new(start: Slot, end: Slot) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The first slot.
    #[must_use]
    pub const fn start(self) -> Slot {
        self.start
    }

    /// The last slot, itself part of the range.
    #[must_use]
    pub const fn end(self) -> Slot {
        self.end
    }

    /// How many slots: at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> usize {
        self.end.index() - self.start.index() + 1
    }

    /// The slots in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (self.start.0..=self.end.0).map(Slot)
    }
}

impl From<Slot> for SlotRange {
    fn from(slot: Slot) -> Self {
        Self { start: slot, end: slot }
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end { write!(f, "{}", self.start) } else { write!(f, "{}-{}", self.start, self.end) }
    }
}

impl FromStr for SlotRange {
    type Err = SlotTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((start, end)) = text.split_once('-') else { return text.parse::<Slot>().map(Self::from) };
        Self::new(start.trim().parse()?, end.trim().parse()?).ok_or_else(|| SlotTextError::Reversed(text.to_owned()))
    }
}

const WORDS: usize = Slot::COUNT / 64;

/// A set of slots, ordered by number.
///
/// Written and read as `0-99,866`; the empty set is the empty string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

impl SlotSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }

    /// All 16,384 slots.
    #[must_use]
    pub fn full() -> Self {
        Self { words: Box::new([u64::MAX; WORDS]) }
    }

    /// Adds a slot; says whether it was new.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Adds every slot of a range.
    pub fn insert_range(&mut self, range: SlotRange) {
        for slot in range.iter() {
            self.insert(slot);
        }
    }

    /// Adds every slot of another set.
    pub fn insert_all(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(other.words.iter()) {
            *word |= more;
        }
    }

    /// Removes a slot; says whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        there
    }

    /// Whether the slot is in the set.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        self.words[word] & bit != 0
    }

    /// How many slots are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set holds no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.words.iter().zip(0u16..).flat_map(|(&word, at)| Bits(word).map(move |bit| Slot(at * 64 + bit)))
    }

    /// The lowest slot, if any.
    #[must_use]
    pub fn first(&self) -> Option<Slot> {
        self.iter().next()
    }

    /// The set as the fewest ranges, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some(last) if last.end.0 + 1 == slot.0 => last.end = slot,
                Some(_) | None => ranges.push(slot.into()),
            }
        }
        ranges
    }

    /// Whether the two sets share a slot.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(other.words.iter()).any(|(a, b)| a & b != 0)
    }

    /// The slots that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// The slots that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    /// The slots of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    fn combine(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = Box::new([0; WORDS]);
        for (word, (a, b)) in words.iter_mut().zip(self.words.iter().zip(other.words.iter())) {
            *word = with(*a, *b);
        }
        Self { words }
    }
}

const fn place(slot: Slot) -> (usize, u64) {
    (slot.index() / 64, 1 << (slot.index() % 64))
}

struct Bits(u64);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let bit = u16::try_from(self.0.trailing_zeros()).ok()?;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

impl PartialOrd for SlotSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As lists of slots in ascending order compare.
impl Ord for SlotSet {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        set.extend(slots);
        set
    }
}

impl Extend<Slot> for SlotSet {
    fn extend<I: IntoIterator<Item = Slot>>(&mut self, slots: I) {
        for slot in slots {
            self.insert(slot);
        }
    }
}

impl From<SlotRange> for SlotSet {
    fn from(range: SlotRange) -> Self {
        range.iter().collect()
    }
}

impl From<RangeInclusive<Slot>> for SlotSet {
    fn from(range: RangeInclusive<Slot>) -> Self {
        SlotRange::new(*range.start(), *range.end()).map_or_else(Self::new, Self::from)
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges().into_iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

impl FromStr for SlotSet {
    type Err = SlotTextError;

    /// Reads `0-99,866`; white space around the parts is allowed, a slot named twice counts once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::new();
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            set.insert_range(part.trim().parse()?);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let got = text.parse::<SlotSet>().map(|set| set.to_string()).map_err(|error| error.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expect, "{text:?}");
    }

    #[test]
    fn a_set_of_slots_is_read_and_written_as_the_fewest_ranges() {
        check("", Ok(""));
        check(" 866 , 0-2,3, 1 ", Ok("0-3,866"));
        check("0-16383", Ok("0-16383"));
        check("16384", Err("`16384` is not a slot: slots are the numbers 0 to 16383"));
        check("-1", Err("`` is not a slot: slots are the numbers 0 to 16383"));
        check("+1", Err("`+1` is not a slot: slots are the numbers 0 to 16383"));
        check("9-3", Err("`9-3` is not a range: its first slot is above its last"));
    }

    #[test]
    fn every_slot_has_a_key() {
        for slot in Slot::all() {
            assert_eq!(Slot::of_key(slot.a_key().as_bytes()), slot);
        }
        assert_eq!(Slot::of_key(b"0").a_key(), "0");
    }

    #[test]
    fn the_slot_of_a_key_is_that_of_its_hash_tag() {
        // `CLUSTER KEYSLOT` of a Redis 7.0 gives the same; a live test compares many more.
        for (key, slot) in [("hello", 866), ("{hello}world", 866), ("a{hello}{b}", 866), ("foo", 12182), ("", 0)] {
            assert_eq!(Slot::of_key(key.as_bytes()).number(), slot, "{key}");
        }
        assert_eq!(Slot::of_key(b"{}hello"), Slot(crc16::State::<crc16::XMODEM>::calculate(b"{}hello") % 16384));
        assert_eq!(Slot::of_key(b"{hello"), Slot(crc16::State::<crc16::XMODEM>::calculate(b"{hello") % 16384));
    }

    #[test]
    fn sets_combine_slot_by_slot() {
        let set = |text: &str| text.parse::<SlotSet>().unwrap();
        let (a, b) = (set("0-9,64"), set("5-20"));
        assert_eq!(a.union(&b).to_string(), "0-20,64");
        assert_eq!(a.intersection(&b).to_string(), "5-9");
        assert_eq!(a.difference(&b).to_string(), "0-4,64");
        assert!(a.intersects(&b) && !a.intersects(&set("10,63,65")));
        assert_eq!((SlotSet::full().len(), a.len(), a.first()), (16384, 11, Slot::new(0)));
    }
}
