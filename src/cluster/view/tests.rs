//! Texts of `CLUSTER NODES`, and what is read from them.

#![expect(clippy::needless_raw_string_hashes, reason = "`UPDATE_EXPECT=1 cargo test` writes them so")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const A: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
const B: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";
const C: &str = "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f";

/// Redis 6.2: no hostnames; a slot on its way, a replica, a failed primary.
const REDIS_6_2: &str = "\
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 myself,master - 0 1426238316000 2 connected \
5461-10922 [866-<-07c37dfeb235213a872192d90877d0cd55635b91]
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004 slave 67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 0 \
1426238317239 2 connected
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f 127.0.0.1:30003@31003 master,fail - 1426238310000 1426238318243 3 \
disconnected 10923-16383 17 1-3

";

/// Valkey 9.1: IPv6 without brackets, hostnames, a node in handshake, flags and fields of a later version; lines end
/// as they do on the wire of an old proxy.
const VALKEY_9_1: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 ::1:21103@31103,cache-0.example,nodename=c0,shard-id=7f myself,master,nofailover - 0 0 7 connected 0-865 [866->-67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1] [new thing] later\r
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 fd00::2:21104@31104,,availability-zone=b slave,fail?,sparkling - 0 0 0 connected\r
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f :0@0 noaddr - 0 0 3 disconnected\r
ffffffffffffffffffffffffffffffffffffffff 10.0.0.9:6379@16379 handshake - 0 0 0 disconnected\r
";

/// A node that has met nobody yet does not know its own address.
const FRESH: &str = "07c37dfeb235213a872192d90877d0cd55635b91 :6379@16379 myself,master - 0 0 0 connected\n";

/// One line a node, or the error.
#[expect(clippy::needless_pass_by_value, reason = "`expect!` is written in place")]
fn check(text: &str, expected: Expect) {
    let got = match NodeView::parse(text) {
        Ok(view) => view.lines().map(told).chain([format!("{} in handshake\n", view.handshakes())]).collect(),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&got);
}

fn told(line: &NodeLine) -> String {
    let mut text = line.id.short();
    if line.myself {
        text.push_str(" (myself)");
    }
    let _ = write!(text, " {} {:?} {:?}", line.port, line.bus_port, line.address.as_ref().map(ToString::to_string));
    if let Some(hostname) = &line.hostname {
        let _ = write!(text, " {hostname}");
    }
    match line.role {
        Role::Primary => text.push_str(" primary"),
        Role::Replica { of: Some(of) } => drop(write!(text, " replica of {}", of.short())),
        Role::Replica { of: None } => text.push_str(" replica of nobody"),
        Role::Unknown => text.push_str(" of no role"),
    }
    let _ = write!(text, ", failing {:?}, {:?}, epoch {}", line.failing, line.link, line.config_epoch);
    if !line.slots.is_empty() {
        let _ = write!(text, ", slots {}", line.slots);
    }
    for marker in &line.markers {
        match marker {
            Marker::Migrating { slot, to } => drop(write!(text, ", {slot} to {}", to.short())),
            Marker::Importing { slot, from } => drop(write!(text, ", {slot} from {}", from.short())),
        }
    }
    text + "\n"
}

#[test]
fn a_reply_is_read_in_full() {
    check(
        REDIS_6_2,
        expect![[r#"
        67ed2db8 (myself) 30002 31002 Some("127.0.0.1:30002") primary, failing No, Connected, epoch 2, slots 5461-10922, 866 from 07c37dfe
        07c37dfe 30004 31004 Some("127.0.0.1:30004") replica of 67ed2db8, failing No, Connected, epoch 2
        292f8b36 30003 31003 Some("127.0.0.1:30003") primary, failing Agreed, Disconnected, epoch 3, slots 1-3,17,10923-16383
        0 in handshake
    "#]],
    );
    check(
        VALKEY_9_1,
        expect![[r#"
        07c37dfe (myself) 21103 31103 Some("[::1]:21103") cache-0.example primary, failing No, Connected, epoch 7, slots 0-865, 866 to 67ed2db8
        292f8b36 0 0 None of no role, failing No, Disconnected, epoch 3
        67ed2db8 21104 31104 Some("[fd00::2]:21104") replica of nobody, failing Suspected, Connected, epoch 0
        1 in handshake
    "#]],
    );
    check(
        FRESH,
        expect![[r#"
        07c37dfe (myself) 6379 16379 None primary, failing No, Connected, epoch 0
        0 in handshake
    "#]],
    );
}

#[test]
fn the_fields_that_matter_are_checked_and_the_line_is_named() {
    check(
        "",
        expect![[r#"
        CLUSTER NODES has no line with the flag `myself`
    "#]],
    );
    check(
        "ERR This instance has cluster support disabled",
        expect![[r#"
        line 1 of CLUSTER NODES: it has 7 of the eight fields that every line has
    "#]],
    );
    let with = |from: &str, to: &str| REDIS_6_2.replace(from, to);
    check(
        &with("myself,", ""),
        expect![[r#"
        CLUSTER NODES has no line with the flag `myself`
    "#]],
    );
    check(
        &with("slave", "myself,slave"),
        expect![[r#"
        line 2 of CLUSTER NODES: the flag `myself` stands on line 1 already
    "#]],
    );
    check(
        &with(C, A),
        expect![[r#"
        line 3 of CLUSTER NODES: node 07c37dfeb235213a872192d90877d0cd55635b91 has a second line
    "#]],
    );
    check(
        &with(C, B),
        expect![[r#"
        line 3 of CLUSTER NODES: node 67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 has a second line
    "#]],
    );
    check(
        &with(C, "292f8b36"),
        expect![[r#"
        line 3 of CLUSTER NODES: `292f8b36` is not a node id: a node id is 40 hexadecimal digits in lower case
    "#]],
    );
    check(
        &with("127.0.0.1:30004@31004", "127.0.0.1:30004"),
        expect![[r#"
        line 2 of CLUSTER NODES: `127.0.0.1:30004` is not an address: expected ip:port@bus-port, perhaps with a hostname
    "#]],
    );
    check(
        &with("127.0.0.1:30004@31004", "127.0.0.1:70000@31004"),
        expect![[r#"
        line 2 of CLUSTER NODES: `127.0.0.1:70000@31004` is not an address: expected ip:port@bus-port, perhaps with a hostname
    "#]],
    );
    check(
        &with(" 2 connected", " -2 connected"),
        expect![[r#"
        line 1 of CLUSTER NODES: `-2` is not a config epoch
    "#]],
    );
    check(
        &with("disconnected", "shaky"),
        expect![[r#"
        line 3 of CLUSTER NODES: `shaky` is not the state of a link: expected connected or disconnected
    "#]],
    );
    check(
        &with("10923-16383", "10923-16384"),
        expect![[r#"
        line 3 of CLUSTER NODES: `16384` is not a slot: slots are the numbers 0 to 16383
    "#]],
    );
    check(
        &with("10923-16383", "10922-16383"),
        expect![[r#"
        line 3 of CLUSTER NODES: slots 10922 belong to a line above already
    "#]],
    );
    check(
        &with("[866-<-07c3", "[866-<-07"),
        expect![[r#"
        line 1 of CLUSTER NODES: `[866-<-077dfeb235213a872192d90877d0cd55635b91]` is not an open slot: expected [slot->-id] or [slot-<-id]
    "#]],
    );
    check(
        &with(" disconnected 10923-16383 17 1-3", ""),
        expect![[r#"
        line 3 of CLUSTER NODES: it has 7 of the eight fields that every line has
    "#]],
    );
}

#[test]
fn any_node_is_found_by_its_id() {
    let view = NodeView::parse(REDIS_6_2).unwrap();
    let port = |id: &str| view.line(id.parse().unwrap()).map(|line| line.port);
    assert_eq!((port(A), port(B), port(C)), (Some(30004), Some(30002), Some(30003)));
    assert_eq!((view.myself().port, port(&"0".repeat(40))), (30002, None));
}

/// Writes the line as a server does.
fn written(line: &NodeLine) -> String {
    let mut flags: Vec<&str> = Vec::new();
    flags.extend(line.myself.then_some("myself"));
    let mut primary = "-".to_owned();
    match line.role {
        Role::Primary => flags.push("master"),
        Role::Replica { of } => {
            flags.push("slave");
            primary = of.map_or(primary, |of| of.to_string());
        }
        Role::Unknown => {}
    }
    match line.failing {
        Failing::No => {}
        Failing::Suspected => flags.push("fail?"),
        Failing::Agreed => flags.push("fail"),
    }
    flags.extend(line.no_address.then_some("noaddr"));
    let flags = if flags.is_empty() { "noflags".to_owned() } else { flags.join(",") };
    let host = line.address.as_ref().map_or("", |address| &address.host);
    let hostname = line.hostname.as_ref().map_or_else(String::new, |name| format!(",{name}"));
    let link = match line.link {
        Link::Connected => "connected",
        Link::Disconnected => "disconnected",
    };
    let (id, port, bus_port, epoch) = (line.id, line.port, line.bus_port, line.config_epoch);
    let mut text = format!("{id} {host}:{port}@{bus_port}{hostname} {flags} {primary} 0 1 {epoch} {link}");
    for range in line.slots.ranges() {
        let _ = write!(text, " {range}");
    }
    for marker in &line.markers {
        let _ = match marker {
            Marker::Migrating { slot, to } => write!(text, " [{slot}->-{to}]"),
            Marker::Importing { slot, from } => write!(text, " [{slot}-<-{from}]"),
        };
    }
    text + "\n"
}

fn any_id() -> impl Strategy<Value = NodeId> {
    "[0-9a-f]{40}".prop_map(|text| text.parse().expect("an id"))
}

fn any_marker() -> impl Strategy<Value = Marker> {
    (0_u16..16384, any_id(), any::<bool>()).prop_map(|(slot, node, out)| {
        let slot = Slot::new(slot).expect("a slot");
        if out { Marker::Migrating { slot, to: node } } else { Marker::Importing { slot, from: node } }
    })
}

/// A line about another node, without slots.
fn any_line() -> impl Strategy<Value = NodeLine> {
    let role = prop_oneof![
        Just(Role::Primary),
        proptest::option::of(any_id()).prop_map(|of| Role::Replica { of }),
        Just(Role::Unknown)
    ];
    let failing = prop_oneof![Just(Failing::No), Just(Failing::Suspected), Just(Failing::Agreed)];
    let host = proptest::option::of("10\\.0\\.[0-9]{1,2}\\.7|::1|fd00::[0-9a-f]{1,4}");
    let hostname = proptest::option::of("[a-z]{1,9}\\.example");
    let numbers = (1_u16.., any::<u16>(), any::<u64>(), any::<bool>());
    (any_id(), host, hostname, role, failing, numbers).prop_map(
        |(id, host, hostname, role, failing, (port, bus_port, config_epoch, up))| NodeLine {
            id,
            no_address: host.is_none(),
            port: if host.is_some() { port } else { 0 },
            address: host.map(|host| Address::new(host, port)),
            bus_port,
            hostname,
            myself: false,
            role,
            failing,
            handshake: false,
            config_epoch,
            link: if up { Link::Connected } else { Link::Disconnected },
            slots: SlotSet::new(),
            markers: Vec::new(),
        },
    )
}

/// Views with the slots shared out among the lines.
fn any_view() -> impl Strategy<Value = NodeView> {
    let lines = proptest::collection::btree_map(any_id(), any_line(), 1..6);
    let cuts = proptest::collection::vec((0_u16..16384, 0_usize..8), 0..12);
    let markers = proptest::collection::vec(any_marker(), 0..4);
    (lines, cuts, markers).prop_map(|(lines, cuts, markers)| {
        let mut lines: Vec<NodeLine> = lines.into_iter().map(|(id, line)| NodeLine { id, ..line }).collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|(at, owner)| (Slot::new(at).expect("a slot"), owner)).collect();
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            let [(start, owner), (end, _)] = [pair[0], pair[1]];
            // The last slot of a stretch is the first of the next: nobody's, unless that is where it goes.
            if let Some(line) = lines.get_mut(owner) {
                line.slots.extend(SlotSet::from(start..=end).iter().filter(|slot| *slot != end));
            }
        }
        let mut myself = lines.remove(0);
        (myself.myself, myself.markers) = (true, markers);
        lines.sort_by_key(|line| line.id);
        let others = lines.into_iter().map(Arc::new).collect();
        NodeView { myself: Arc::new(myself), others, handshakes: Vec::new() }
    })
}

/// A real reply with a stretch of its bytes replaced.
fn mutated_reply() -> impl Strategy<Value = String> {
    let text = prop_oneof![Just(REDIS_6_2), Just(VALKEY_9_1), Just(FRESH)];
    let put = prop_oneof!["[\\PC\n\r ]{0,6}", "[-0-9a-f:@,<>\\[\\] ]{0,6}", Just(String::new())];
    (text, any::<prop::sample::Index>(), 0_usize..80, put).prop_map(|(text, at, len, put)| {
        let start = at.index(text.len());
        let end = (start + len).min(text.len());
        format!("{}{put}{}", &text[..start], &text[end..])
    })
}

proptest! {
    #[test]
    fn what_a_server_writes_is_read_back(view in any_view()) {
        let text: String = view.lines().map(written).collect();
        prop_assert_eq!(NodeView::parse(&text), Ok(view));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\PC\n ]{0,200}") {
        let _ = NodeView::parse(&text);
    }

    /// A damaged reply is refused with the number of one of its lines, or still read as a whole view.
    #[test]
    fn a_damaged_reply_is_refused_or_whole(text in mutated_reply()) {
        match NodeView::parse(&text) {
            Ok(view) => {
                prop_assert!(view.myself().myself);
                let mut seen = SlotSet::new();
                for line in view.lines() {
                    prop_assert!(!seen.intersects(&line.slots));
                    seen = seen.union(&line.slots);
                }
            }
            Err(ViewError::Line { line, .. }) => prop_assert!((1..=text.lines().count()).contains(&line)),
            Err(ViewError::NoMyself) => {
                // As a flag: a damaged reply may have it as a part of another word.
                let flags = |line: &str| line.split(' ').nth(2).unwrap_or_default().to_owned();
                prop_assert!(!text.lines().all(|line| flags(line).split(',').any(|flag| flag == "myself")));
            }
        }
    }
}
