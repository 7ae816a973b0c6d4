//! Two finalises in flight that share a node: forced at the servers they lose keys; on the same nodes evenkeel loses
//! none. That evenkeel never has two of them is shown by the chaos tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use evenkeel::cluster::SlotSet;

use crate::support::{Cluster, Data, Flavour, Node, SOON, Spec, Tagged, eventually};

/// How often the race is run at the most until it has been lost: whoever wins it is chance.
const RACES: usize = 20;
const KEYS: usize = 20;

/// Three primaries by their ids. Of two that take the same epoch at the same time the one with the smaller id takes
/// another one, and so the last word: a source must have the smaller id, and take slots itself, to lose what it gave.
struct Ring {
    cluster: Cluster,
    /// Takes from the last, and gives to the next.
    both: Node,
    taker: Node,
    giver: Node,
}

impl Ring {
    fn start(flavour: Flavour) -> Self {
        let cluster = Cluster::start(Spec::new(flavour));
        let mut nodes = cluster.primaries();
        nodes.sort_by_key(|&node| cluster.node_id(node).to_string());
        let [both, taker, giver] = nodes[..] else { panic!("three primaries") };
        Self { cluster, both, taker, giver }
    }

    /// Has both finalises carried out before either node hears of the other's; returns how many keys of the slot
    /// that was given are left anywhere.
    fn race(&self, number: usize) -> usize {
        let Self { cluster, both, taker, giver } = self;
        let given = Tagged::fill(cluster, *both, number, KEYS);
        let taken = Tagged::fill(cluster, *giver, number, KEYS);
        for (tagged, from, to) in [(&given, *both, *taker), (&taken, *giver, *both)] {
            cluster.open_slot(tagged.slot, from, to);
            while cluster.migrate_keys(tagged.slot, from, to, KEYS) > 0 {}
        }
        // Stopped, each is given its command; then both wake at the same time.
        let pids = [both, taker].map(|node| cluster.pid(*node).to_string());
        let signal = |name: &str| {
            let status = Command::new("sh").args(["-c", &format!("kill -s {name} {}", pids.join(" "))]).status();
            assert!(status.expect("there is a shell").success());
        };
        let connected = [(&given, *taker), (&taken, *both)].map(|(tagged, to)| {
            // Accepted before it is stopped: a new connection waits for the next turn, and others come first.
            let address = cluster.address(to);
            let mut stream = TcpStream::connect((address.host.as_str(), address.port)).expect("it runs");
            stream.write_all(b"PING\r\n").expect("it runs");
            stream.read_exact(&mut [0; 7]).expect("it answers");
            (stream, format!("CLUSTER SETSLOT {} NODE {}\r\n", tagged.slot, cluster.node_id(to)))
        });
        signal("STOP");
        let streams = connected.map(|(mut stream, command)| {
            stream.write_all(command.as_bytes()).expect("the kernel takes it for a process that is stopped");
            stream
        });
        signal("CONT");
        for mut stream in streams {
            stream.read_exact(&mut [0; 5]).expect("it is answered");
        }
        eventually("all agree on the owners", SOON, || cluster.agreed_owners().map(drop));
        for (tagged, source) in [(&given, *both), (&taken, *giver)] {
            cluster.cmd::<()>(source, &["CLUSTER", "SETSLOT", &tagged.slot.to_string(), "STABLE"]);
        }
        cluster.nodes().into_iter().map(|node| cluster.keys_in(node, given.slot)).sum()
    }
}

fn check_the_race(flavour: Flavour) {
    let ring = Ring::start(flavour);
    let lost = (0..RACES).map(|number| ring.race(number)).position(|keys| keys == 0);
    assert!(lost.is_some(), "not one of {RACES} races was lost: this story shows nothing");
    drop(ring);

    let Ring { cluster, both, taker, giver } = Ring::start(flavour);
    let data = Data::fill_database(&cluster, 5_000, 0);
    let [of_both, of_giver, of_taker] = [both, giver, taker].map(|node| cluster.slots_of(node));
    let first = |slots: &SlotSet| slots.iter().take(100).collect::<SlotSet>();
    let (given, taken) = (first(&of_both), first(&of_giver));
    let entry = |node, slots: &SlotSet| {
        format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{slots}\"\n", cluster.node_id(node))
    };
    let there = entry(both, &of_both.difference(&given).union(&taken))
        + &entry(taker, &of_taker.union(&given))
        + &entry(giver, &of_giver.difference(&taken));
    let back = entry(both, &of_both) + &entry(taker, &of_taker) + &entry(giver, &of_giver);
    let groups = "[migration]\ngroup_slots = 5\n";
    for layout in [&there, &back, &there] {
        let call = cluster.evenkeel_with_file(&["rebalance", "--json"], &format!("{groups}{layout}"));
        let done = call.run_to_end().exited_with_json(0);
        assert_eq!(done["slots_moved"], 200, "{done}");
    }
    data.verify_all(&cluster);
}

#[test]
fn finalises_that_share_a_node_lose_keys_and_evenkeel_loses_none_on_redis_7_0() {
    check_the_race(Flavour::Redis70);
}

#[test]
fn finalises_that_share_a_node_lose_keys_and_evenkeel_loses_none_on_valkey_9_1() {
    check_the_race(Flavour::Valkey91);
}
