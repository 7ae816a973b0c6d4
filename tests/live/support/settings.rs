//! Configuration files for the stories.

use super::cluster::Cluster;

/// A `[schedule]` for stories that should not take long: as quick as the configuration allows.
pub(crate) const HASTY: &str = r#"
    [schedule]
    poll = "100ms"
    adopt_after = "1s"
    foreign_quiet = "1s"
"#;

/// The same of a daemon that has no time to adopt what is not on its own record.
pub(crate) fn adopting_nothing() -> String {
    HASTY.replace("adopt_after = \"1s\"", "adopt_after = \"1h\"")
}

/// A configuration file that names this cluster, as it is now, with `more` tables after it.
pub(crate) fn settings(cluster: &Cluster, more: &str) -> String {
    let seeds: Vec<String> = cluster.nodes().into_iter().map(|node| format!("\"{}\"", cluster.address(node))).collect();
    format!("[cluster]\nname = \"story\"\nseeds = [{}]\n{more}", seeds.join(", "))
}
