//! Stories of merges: what the nodes say, and what follows. See [`observation`] for how they are told.

#![expect(clippy::needless_raw_string_hashes, reason = "`UPDATE_EXPECT=1 cargo test` writes them so")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::cluster::fixtures::{id, observation, with_names};

/// Shards, then what is unclear, then what was found, each on its line.
#[expect(clippy::needless_pass_by_value, reason = "`expect!` is written in place")]
fn check(story: &str, ours: &str, expected: Expect) {
    let observation = observation(story);
    let topology = Topology::merge(&observation, &ours.parse().unwrap());
    let mut text = String::new();
    for shard in topology.shards.values() {
        let _ = write!(text, "{}: {}", shard.primary.id.short(), shard.slots);
        for replica in &shard.replicas {
            let _ = write!(text, " +{}", replica.id.short());
        }
        if !shard.usable() {
            let _ = write!(text, " ({:?})", shard.standing);
        }
        text.push('\n');
    }
    for unclear in &topology.unclear {
        let _ = writeln!(text, "{}: {unclear}", unclear.name());
    }
    for finding in &topology.findings {
        let _ = writeln!(text, "found {}: {finding}", finding.name());
    }
    expected.assert_eq(&with_names(&text, &observation));
}

/// Three primaries and a replica that agree.
const SETTLED: &str = "
    a 0-5460
    b 5461-10922
    c 10923-16383
    a1 of a
";

fn settled(change: &str) -> String {
    format!("{SETTLED}{change}")
}

#[test]
fn a_settled_cluster_is_clear() {
    check(
        SETTLED,
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
}

#[test]
fn a_slot_given_to_another_node_by_one_primary_is_disputed() {
    let story = settled("c says a 0-865 867-5460");
    check(
        &story,
        "",
        expect![[r#"
            a: 0-865,867-5460 +a1
            b: 5461-10922
            c: 10923-16383
            views_disagree: the primaries disagree about who owns slot 866 (dissenting: c)
        "#]],
    );
    let story = settled("c says a 0-865 867-5460\nc says b 866 5461-10922");
    check(
        &story,
        "",
        expect![[r#"
            a: 0-865,867-5460 +a1
            b: 5461-10922
            c: 10923-16383
            views_disagree: the primaries disagree about who owns slot 866 (dissenting: c)
        "#]],
    );
}

#[test]
fn a_dispute_about_our_own_slots_is_none() {
    let story = settled("c says a 0-865 867-5460\nc says b 866 5461-10922");
    check(
        &story,
        "866",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
    check(
        &story,
        "867",
        expect![[r#"
            a: 0-865,867-5460 +a1
            b: 5461-10922
            c: 10923-16383
            views_disagree: the primaries disagree about who owns slot 866 (dissenting: c)
        "#]],
    );
}

#[test]
fn of_two_claims_to_our_slot_the_later_one_holds() {
    // The target finalised, and the source was read before it heard of that.
    check(
        &settled("b says a 0-865 867-5460\nb says b 866 5461-10922 epoch=10"),
        "866",
        expect![[r#"
        a: 0-865,867-5460 +a1
        b: 866,5461-10922
        c: 10923-16383
    "#]],
    );
    let old_claim = "b says a 0-865 867-5460\nb says b 866 5461-10922\na says a 0-5460 epoch=10";
    check(
        &settled(old_claim),
        "866",
        expect![[r#"
            a: 0-5460 +a1
            b: 5461-10922
            c: 10923-16383
        "#]],
    );
}

#[test]
fn our_slot_that_nobody_claims_goes_to_the_latest_epoch() {
    // The source was read after the finalise, target and bystander before it: two votes for the source are older.
    let after = "a says a 0-865 867-5460\na says b 866 5461-10922 epoch=10";
    check(
        &settled(after),
        "866",
        expect![[r#"
        a: 0-865,867-5460 +a1
        b: 866,5461-10922
        c: 10923-16383
    "#]],
    );
}

#[test]
fn a_slot_that_its_owner_does_not_claim_is_named() {
    // The source finalised first: all others send clients to it, and it sends them to the target.
    let limbo = "a says a 0-865 867-5460\na says b 866 5461-10922";
    check(
        &settled(limbo),
        "",
        expect![[r#"
            a: 0-865,867-5460 +a1
            b: 5461-10922
            c: 10923-16383
            owner_does_not_claim: all other primaries give slot 866 to a, and a makes no claim
        "#]],
    );
}

#[test]
fn slots_without_an_owner_are_uncovered() {
    let story = "a 0-9 12-99\nb 100-16383";
    check(
        story,
        "",
        expect![[r#"
            a: 0-9,12-99
            b: 100-16383
            slots_uncovered: nobody owns slots 10-11
        "#]],
    );
    check(
        story,
        "10-11",
        expect![[r#"
        a: 0-9,12-99
        b: 100-16383
    "#]],
    );
}

#[test]
fn a_primary_with_slots_that_fails_or_keeps_silent_makes_the_picture_unclear() {
    check(
        &settled("b says c fail? 10923-16383"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383 (Failing)
        node_failing: primary c is suspected of failing (fail?) by b
    "#]],
    );
    check(
        &settled("c silent timed out"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383 (Silent)
        node_silent: primary c at 10.0.0.3:6379 owns slots and did not answer: timed out
    "#]],
    );
    check(
        &settled("c unasked\na says c fail 10923-16383\nb says c fail 10923-16383"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383 (Silent)
        node_silent: primary c at 10.0.0.3:6379 owns slots and did not answer: it was not asked
        node_failing: primary c is marked as failed (fail) by a, b
    "#]],
    );
}

#[test]
fn a_primary_with_slots_that_does_not_serve_makes_the_picture_unclear() {
    check(
        &settled("c info cluster_state:fail\nb info loading:1"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922 (NotServing)
        c: 10923-16383 (NotServing)
        cluster_down: primary c says that the cluster is down
        node_loading: primary b is loading its data set
    "#]],
    );
}

#[test]
fn a_primary_without_slots_in_trouble_is_a_finding_and_not_usable() {
    check(
        &settled("d\nd silent refused"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        d:  (Silent)
        found empty_primary_silent: primary d at 10.0.0.5:6379 without slots did not answer: refused
    "#]],
    );
    check(
        &settled("d\na says d fail?"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        d:  (Failing)
        found empty_primary_failing: primary d without slots is suspected of failing (fail?) by a
    "#]],
    );
    check(
        &settled("d\nd info cluster_state:fail"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        d:  (NotServing)
        found empty_primary_not_serving: primary d without slots is loading, or says that the cluster is down
    "#]],
    );
    check(
        &settled("d\nb says no d"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        d:  (HalfKnown)
        found unknown_node: node d is known to a, c, d and unknown to b
    "#]],
    );
}

#[test]
fn a_replica_in_trouble_is_a_finding() {
    check(
        &settled("a1 silent timed out\nb says a1 of a fail"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found replica_silent: replica a1 at 10.0.0.4:6379 did not answer: timed out
        found replica_failing: replica a1 is marked as failed (fail) by b
    "#]],
    );
    check(
        &settled("a1 info master_link_status:down"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found replica_unlinked: replica a1 has no connection to its primary
    "#]],
    );
    check(
        &settled("a1 unasked"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
}

#[test]
fn a_mark_that_only_a_replica_has_is_a_finding_and_one_that_its_primary_has_too_is_none() {
    let stale = "a 0-5460 [7->-b]\nb 5461-16383\na1 of a [7->-b] [8->-b]";
    check(
        stale,
        "7",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-16383
        found replica_mark_stale: replica a1 marks slot 8 as migrating to b, and its primary does not
    "#]],
    );
    check(
        stale,
        "7-8",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-16383
    "#]],
    );
}

#[test]
fn a_migration_of_the_servers_own_is_a_finding_told_once() {
    let job = settled("a job b 0-99 snapshotting\nc jobs timed out");
    check(
        &job,
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found server_side_job: CLUSTER MIGRATESLOTS moves slots 0-99 from a to b: snapshotting
    "#]],
    );
    let topology = Topology::merge(&observation(&job), &SlotSet::new());
    assert_eq!((topology.jobs.len(), topology.jobs_unread.keys().copied().collect::<Vec<_>>()), (1, vec![id("c")]));
}

#[test]
fn a_replica_with_an_old_map_of_its_shard_is_a_finding() {
    check(
        &settled("a1 says a 0-5459 5461\na1 says b 5460 5462-10922"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found replica_view_stale: replica a1 sees slots 5460-5461 of its own shard differently
    "#]],
    );
    check(
        &settled("a1 says a 0-5459 5461\na1 says b 5460 5462-10922"),
        "5460-5461",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
    // Of another shard it may think what it likes: it will learn before it matters.
    check(
        &settled("a1 says b 5461-10922 10923\na1 says c 10924-16383"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
}

#[test]
fn the_map_of_a_replica_does_not_count() {
    check(
        "a 0-16383\na1 of a\na silent timed out",
        "",
        expect![[r#"
        no_primary_answered: no primary answered: timed out
    "#]],
    );
}

#[test]
fn open_slots_are_read_from_the_primaries_own_lines() {
    let story = "a 0-5460 [866->-b] [7->-b]\nb 5461-10922 [866-<-a]\nc 10923-16383 [8-<-a]\na1 of a [866->-b] [9->-b]";
    check(
        story,
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found open_slot: slot 7 is open and belongs to a; a is giving it to b
        found open_slot: slot 8 is open and belongs to a; c is taking it from a
        found open_slot: slot 866 is open and belongs to a; a is giving it to b; b is taking it from a
        found replica_mark_stale: replica a1 marks slot 9 as migrating to b, and its primary does not
    "#]],
    );
    check(
        story,
        "7-8",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found open_slot: slot 866 is open and belongs to a; a is giving it to b; b is taking it from a
        found replica_mark_stale: replica a1 marks slot 9 as migrating to b, and its primary does not
    "#]],
    );
}

#[test]
fn a_stale_mark_at_the_old_source_does_not_make_it_the_owner() {
    check(
        "a 0-865 867-5460 [866->-b]\nb 866 5461-16383",
        "",
        expect![[r#"
        a: 0-865,867-5460
        b: 866,5461-16383
        found open_slot: slot 866 is open and belongs to b; a is giving it to b
    "#]],
    );
}

#[test]
fn a_failover_half_heard_of_leaves_roles_unsure() {
    // `a1` was promoted; `a` is back as its replica; `c` knows nothing of it.
    let promoted = "a of a1\na1 0-5460 epoch=11\nb 5461-10922\nc 10923-16383\nc says a 0-5460\nc says a1 of a";
    check(
        promoted,
        "",
        expect![[r#"
            a1:  +a
            b: 5461-10922
            c: 10923-16383
            role_unsure: node a1 owns slots, and it is unsure whether it is a primary
            role_unsure: node a owns slots, and it is unsure whether it is a primary
            views_disagree: the primaries disagree about who owns slots 0-5460 (dissenting: c)
        "#]],
    );
    // INFO was read after the view.
    check(
        &settled("a info role:slave"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        role_unsure: node a owns slots, and it is unsure whether it is a primary
    "#]],
    );
}

#[test]
fn a_source_that_lost_its_last_slot_to_us_and_became_a_replica_is_no_failover() {
    // Redis makes an emptied primary a replica of the node that took its last slot; `c` has not heard of it.
    check(
        "a of b\nb 0-99 epoch=10\nc 100-16383\nc says a 0\nc says b 1-99",
        "0",
        expect![[r#"
        b: 0-99 +a
        c: 100-16383
    "#]],
    );
    check(
        "a of b\nb 0-99 epoch=10\nc 100-16383\nc says a 0\nc says b 1-99",
        "",
        expect![[r#"
            b: 1-99 +a
            c: 100-16383
            role_unsure: node a owns slots, and it is unsure whether it is a primary
            views_disagree: the primaries disagree about who owns slot 0 (dissenting: c)
        "#]],
    );
}

#[test]
fn a_replica_of_a_replica_belongs_to_the_shard_at_the_end_of_the_chain() {
    check(
        "a of b\na1 of a\nb 0-16383",
        "",
        expect![[r#"
        b: 0-16383 +a1 +a
    "#]],
    );
    check(
        "a of b\nb of a\nc 0-16383",
        "",
        expect![[r#"
        c: 0-16383
    "#]],
    );
}

#[test]
fn epochs_may_differ_only_while_we_move() {
    check(
        &settled("c info cluster_current_epoch:12"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        epochs_differ: the primaries are at different epochs, from 9 to 12
    "#]],
    );
    check(
        &settled("c info cluster_current_epoch:12"),
        "1",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
    "#]],
    );
}

#[test]
fn joining_leaving_and_unreachable_nodes_are_findings() {
    check(
        &settled("b says handshake\nc says a 0-5460 disconnected"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found handshake: primary b is shaking hands with 10.0.9.9:6379
        found link_down: primary c has no cluster link to a, which answers
    "#]],
    );
    check(
        &settled("d noaddr at=:0@0 disconnected\nd silent no address\na says no d\nb says no d"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        d:  (Silent)
        found empty_primary_silent: primary d at 10.0.0.5:6379 without slots did not answer: no address
        found unknown_node: node d is known to c and unknown to a, b
    "#]],
    );
    check(
        &settled("a1 info rdb_last_bgsave_status:err"),
        "",
        expect![[r#"
        a: 0-5460 +a1
        b: 5461-10922
        c: 10923-16383
        found save_failed: the last background save of node a1 failed
    "#]],
    );
}

#[test]
fn nothing_is_judged_of_two_clusters_or_without_a_primary() {
    check(
        "a 0-16383\nd 0-16383\nd alone",
        "",
        expect![[r#"
        two_clusters: 10.0.0.1:6379 and 10.0.0.2:6379 are of two clusters: no node that the one knows is known to the other
    "#]],
    );
    check(
        "a 0-16383\na1 of a\na unasked",
        "",
        expect![[r#"
        no_primary_answered: no primary answered
    "#]],
    );
    check(
        "",
        "",
        expect![[r#"
        no_primary_answered: no primary answered
    "#]],
    );
}

#[test]
fn nodes_that_know_each_other_through_a_third_are_one_cluster() {
    check(
        "a 0-16383\nb\nc\na says no c\nc says no a",
        "",
        expect![[r#"
            a:  (HalfKnown)
            b: 
            c:  (HalfKnown)
            views_disagree: the primaries disagree about who owns slots 0-16383 (dissenting: c)
            found unknown_node: node a is known to a, b and unknown to c
            found unknown_node: node c is known to b, c and unknown to a
        "#]],
    );
}

#[test]
fn a_member_is_reached_where_the_others_have_it() {
    let observation = observation("a 0-16383 at=:6379@16379\na1 of a at=10.9.9.9:7000@17000\nb host=b.example");
    let topology = Topology::merge(&observation, &SlotSet::new());
    let shard = topology.shard_of(id("a1")).unwrap();
    let at = |member: &Member| member.address.as_ref().map(ToString::to_string);
    assert_eq!(at(&shard.primary).as_deref(), Some("10.0.0.1:6379"), "an empty ip: where it was dialled");
    assert_eq!(at(&shard.replicas[0]).as_deref(), Some("10.9.9.9:7000"), "announced, not dialled");
    assert_eq!(topology.shards[&id("b")].primary.hostname.as_deref(), Some("b.example"));
    assert_eq!(topology.current_epoch(), 9);
    assert_eq!(topology.shard_of(id("c")), None);
}

proptest! {
    /// However views differ: no slot has two owners, an owner is a shard's primary, and nothing about our own slots is
    /// a reason to stop.
    #[test]
    fn owners_and_shards_are_one_table(
        cuts in proptest::collection::vec((0_u16..16384, 0_u16..16384, 1_u64..20, 1_u64..20), 3),
        ours in (0_u16..16384, 0_u16..16384),
    ) {
        let mut story = String::from("a\nb\nc\n");
        for (speaker, (one, other, a_epoch, b_epoch)) in ["a", "b", "c"].into_iter().zip(cuts) {
            let (low, high) = (one.min(other), one.max(other));
            let _ = writeln!(story, "{speaker} says a 0-{low} epoch={a_epoch}");
            if low < high {
                let _ = writeln!(story, "{speaker} says b {}-{high} epoch={b_epoch}", low + 1);
            }
        }
        let ours: SlotSet = format!("{}-{}", ours.0.min(ours.1), ours.0.max(ours.1)).parse().unwrap();
        let topology = Topology::merge(&observation(&story), &ours);

        for slot in Slot::all() {
            let holders: Vec<NodeId> =
                topology.shards.values().filter(|shard| shard.slots.contains(slot)).map(|s| s.primary.id).collect();
            prop_assert_eq!(holders, Vec::from_iter(topology.owner(slot)));
        }
        for unclear in &topology.unclear {
            if let Unclear::ViewsDisagree { slots, .. }
                | Unclear::OwnerDoesNotClaim { slots, .. }
                | Unclear::SlotsUncovered { slots } = unclear
            {
                prop_assert!(!slots.intersects(&ours), "{}", unclear);
                prop_assert!(slots.iter().all(|slot| topology.owner(slot).is_none()), "{}", unclear);
            }
        }
    }
}

#[test]
fn a_node_that_is_in_no_cluster_says_nothing_about_one() {
    let check = |story: &str, expect: &[(&str, bool)]| {
        let mut observation = observation(story);
        observation.set_alone_apart();
        let topology = Topology::merge(&observation, &SlotSet::new());
        let alone = topology.findings.iter().filter_map(|found| {
            if let Finding::NodeAlone { node, known, .. } = found { Some((*node, *known)) } else { None }
        });
        let expect: Vec<_> = expect.iter().map(|(name, known)| (id(name), *known)).collect();
        assert_eq!(alone.collect::<Vec<_>>(), expect, "{story}");
        topology
    };
    let two = "a 0-8191\nb 8192-16383\n";
    // Nobody knows it, as after `redis-cli --cluster del-node`: a seed.
    let topology = check(&format!("{two}c\nc alone"), &[("c", false)]);
    assert_eq!(topology.unclear, []);
    assert!(!topology.shards.contains_key(&id("c")));
    // Others know it still: it was reset, and is to be met or forgotten.
    let reset = format!("{two}c\nc says no a\nc says no b");
    let topology = check(&reset, &[("c", true)]);
    assert_eq!((topology.unclear.as_slice(), topology.shards[&id("c")].standing), (&[][..], Standing::Alone));
    // What somebody gives it, or it has, is told of as before.
    let topology = check("a 0-8191\nb 8192-16382\nc\na says c 16383\nc says no a\nc says no b", &[]);
    assert_ne!(topology.unclear, []);
    let topology = check(&format!("{reset}\nc info db0:keys=1,expires=0,avg_ttl=0"), &[]);
    assert_ne!(topology.unclear, []);
    let topology = check(&format!("{two}c 5\nc alone"), &[]);
    assert!(matches!(topology.unclear[..], [Unclear::TwoClusters { .. }]), "{:?}", topology.unclear);
    // Where there is no cluster yet, nobody is beside it.
    check("a\na alone\nb\nb alone", &[]);
}
