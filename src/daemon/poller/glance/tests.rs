use super::*;
use crate::cluster::fixtures::{id, observation};

#[test]
fn counters_of_messages_are_no_sign_and_all_else_is() {
    let before = "cluster_state:ok\r\ncluster_size:3\r\ncluster_stats_messages_sent:7\r\ncluster_stats_bytes_sent:7\r\n\
                  total_cluster_links_buffer_limit_exceeded:0\r\n";
    let check = |from: &str, to: &str, same: bool| {
        let now = before.replace(from, to);
        assert_ne!(now, before);
        assert_eq!(Signs::of(&now) == Signs::of(before), same, "{now}");
    };
    check("messages_sent:7", "messages_sent:9", true);
    check("bytes_sent:7", "bytes_sent:9", true);
    check("exceeded:0", "exceeded:4", true);
    check("state:ok", "state:fail", false);
    check("size:3", "size:4", false);
    check("cluster_size:3", "cluster_size:3\r\ncluster_of_a_later_version:1", false);
    check("cluster_size:3\r\n", "", false);
}

#[test]
fn ten_glances_read_every_node_and_each_of_them_at_least_one() {
    let check = |count: u32, expect_at_once: usize, expect_glances: usize| {
        let story = (16..count + 16).map(|at| format!("{at:02x}")).collect::<Vec<_>>().join("\n");
        let nodes = observation(&story).nodes;
        let (mut after, mut seen, mut glances) = (None, std::collections::BTreeSet::new(), 0);
        while seen.len() < nodes.len() {
            let part = next_part(&nodes, after);
            assert_eq!(part.len(), expect_at_once, "of {count}");
            after = part.last().copied();
            seen.extend(part);
            glances += 1;
        }
        assert_eq!(glances, expect_glances, "of {count}");
    };
    check(1, 1, 1);
    check(6, 1, 6);
    check(10, 1, 10);
    check(11, 2, 6);
    check(100, 10, 10);
}

#[test]
fn the_turn_goes_on_where_a_node_has_left() {
    let nodes = observation("a\nc\nd").nodes;
    assert_eq!(next_part(&nodes, Some(id("b"))), [id("c")]);
    assert_eq!(next_part(&nodes, Some(id("f"))), [id("a")]);
}

#[test]
fn what_changes_with_every_key_is_no_change_and_all_else_is() {
    let check = |before: &str, now: &str, same: bool| {
        let [before, now] = [before, now].map(|story| observation(story).nodes[&id("a")].clone());
        assert_eq!(is_unchanged(&before, &now), same, "{before:?}\n{now:?}");
    };
    let info = |field: &str| format!("a 0-16383\nb\na info {field}");
    let busy = |used: u32, offset: u32| {
        let fields = [
            format!("used_memory:{used}"),
            format!("used_memory_dataset:{used}"),
            format!("master_repl_offset:{offset}"),
            format!("slave0:ip=10.0.0.2,port=6379,state=online,offset={offset},lag={}", offset % 2),
            format!("db0:keys={used},expires=0,avg_ttl=0"),
        ];
        fields.map(|field| format!("\na info {field}")).concat()
    };
    let before = format!("a 0-16383\nb{}", busy(100, 7));
    check(&before, &format!("a 0-16383\nb{}", busy(999, 8)), true);
    check(&before, &before.replace("state=online", "state=wait_bgsave"), false);
    check(&info("maxmemory:1"), &info("maxmemory:2"), false);
    check(&info("loading:0"), &info("loading:1"), false);
    check(&info("rdb_last_bgsave_status:ok"), &info("rdb_last_bgsave_status:err"), false);
    check(&info("loading:0"), &format!("{}\na info run_id:other", info("loading:0")), false);
    check("a 0-16383\nb", "a 0-16383 [5->-b]\nb", false);
    check("a 0-16383\nb", "a 0-16382\nb 16383", false);
    check("a 0-16383\nb", "a 0-16383\nb\nc", false);
    check("a 0-16383\nb", "a 0-16383\nb\na says b fail? ", false);
}
