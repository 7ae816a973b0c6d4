//! Who the nodes are that a text names by the first digits of their ids.

use crate::cluster::{Member, Topology};

/// A line for each node of the cluster that the text names, with its address and role; empty where it names none.
pub(super) fn legend(text: &str, topology: &Topology) -> String {
    let named = |member: &Member| text.contains(&member.id.short());
    let line = |member: &Member, role: &str| {
        let address = member.address.as_ref().map_or_else(|| "no address known".to_owned(), ToString::to_string);
        format!("  {} is {address}, {role}\n", member.id.short())
    };
    let mut lines = String::new();
    for shard in topology.shards.values() {
        if named(&shard.primary) {
            lines.push_str(&line(&shard.primary, "a primary"));
        }
        for replica in shard.replicas.iter().filter(|replica| named(replica)) {
            lines.push_str(&line(replica, &format!("a replica of {}", shard.primary.id.short())));
        }
    }
    if lines.is_empty() { lines } else { format!("the nodes:\n{lines}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SlotSet;
    use crate::cluster::fixtures::{id, observation};

    #[test]
    fn only_the_nodes_that_are_named_are_told() {
        let topology = Topology::merge(&observation("a 0-8191\nb 8192-16383\nb1 of b"), &SlotSet::new());
        let (b, b1) = (id("b").short(), id("b1").short());
        assert_eq!(legend("nothing is wrong", &topology), "");
        let expect = format!("the nodes:\n  {b1} is 10.0.0.3:6379, a replica of {b}\n");
        assert_eq!(legend(&format!("{b1} is silent"), &topology), expect);
    }
}
