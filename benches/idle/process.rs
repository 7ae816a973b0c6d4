//! What a process has used, by the kernel's word.

use std::fs;
use std::time::Duration;

/// What a process has used since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Time on any processor, its own and the kernel's for it.
    pub(crate) processor: Duration,
    /// Memory at present, in MiB.
    pub(crate) resident_mib: f64,
    /// The most memory so far, in MiB.
    pub(crate) resident_highest_mib: f64,
}

impl Usage {
    /// Panics when the process has ended.
    pub(crate) fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the process runs");
        let status = read("status");
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
            let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number of kB");
            kib / 1024.0
        };
        Self { processor: processor(&read("stat")), resident_mib: mib("VmRSS"), resident_highest_mib: mib("VmHWM") }
    }
}

/// The fields `utime` and `stime`, in hundredths of a second (`USER_HZ`, the same on every Linux).
fn processor(stat: &str) -> Duration {
    // The name, in brackets, may hold blanks; `utime` is the twelfth field after it.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
