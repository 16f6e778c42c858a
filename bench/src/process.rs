//! What the kernel says of a process: its CPU time and its memory, from `/proc`.

use std::collections::BTreeMap;
use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// CPU time of all threads of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuSample {
    /// Nanoseconds by thread; empty where the kernel does not count them.
    threads: BTreeMap<u32, u64>,
    /// User and system time of the process in clock ticks, with the threads that ended.
    ticks: u64,
}

/// The kernel's unit of time in `stat`; 100 on every Linux that people run.
const TICKS_PER_SEC: u64 = 100;

impl CpuSample {
    /// # Errors
    ///
    /// When there is no such process.
    pub(crate) fn take(pid: u32) -> io::Result<Self> {
        let ticks = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is unreadable")))?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between the listing and the reading.
            let path = format!("/proc/{pid}/task/{thread}/schedstat");
            let Ok(text) = fs::read_to_string(path) else { continue };
            let first = text.split_whitespace().next();
            if let Some(ns) = first.and_then(|field| field.parse().ok()) {
                threads.insert(thread, ns);
            }
        }
        Ok(Self { threads, ticks })
    }

    /// Nanoseconds of CPU since `before`. Exact as long as no thread ended in between; otherwise
    /// in steps of a clock tick, because an ended thread takes its exact count along.
    pub(crate) fn ns_since(&self, before: &Self) -> u64 {
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if self.threads.is_empty() || ended {
            return self.ticks.saturating_sub(before.ticks) * (1_000_000_000 / TICKS_PER_SEC);
        }
        let sum = |sample: &Self| sample.threads.values().sum::<u64>();
        sum(self).saturating_sub(sum(before))
    }
}

/// utime + stime from `/proc/PID/stat`. The name before them may hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Resident.
    pub(crate) rss: u64,
    /// Resident, shared pages divided among their users. `None` where it may not be read.
    pub(crate) pss: Option<u64>,
    /// Resident and nobody else's.
    pub(crate) private: Option<u64>,
}

impl Memory {
    /// # Errors
    ///
    /// When there is no such process.
    pub(crate) fn take(pid: u32) -> io::Result<Self> {
        // smaps_rollup walks the pages; the counters behind VmRSS may lag by some pages a thread.
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            && let Some(rss) = parse_kb(&text, "Rss:")
        {
            let private = parse_kb(&text, "Private_Clean:")
                .zip(parse_kb(&text, "Private_Dirty:"))
                .map(|(clean, dirty)| clean + dirty);
            return Ok(Self { rss, pss: parse_kb(&text, "Pss:"), private });
        }
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = parse_kb(&text, "VmRSS:")
            .ok_or_else(|| io::Error::other(format!("process {pid} has no memory")))?;
        Ok(Self { rss, pss: None, private: None })
    }
}

/// The value of the line `key  N kB`, in bytes.
fn parse_kb(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kb: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kb * 1024)
}

/// Raises the number of descriptors that this process and its children may hold to `wanted`, or
/// as near to it as the hard limit allows; returns the limit that holds now.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let new = Rlimit { current: Some(raised), maximum: limit.maximum };
    if setrlimit(Resource::Nofile, new).is_ok() { raised } else { current }
}

/// The machine in one line: processor, cores, memory, kernel.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = parse_kb(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {memory} MiB, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(threads: &[(u32, u64)], ticks: u64) -> CpuSample {
        CpuSample { threads: threads.iter().copied().collect(), ticks }
    }

    #[test]
    fn stat_survives_a_strange_name() {
        let text = "12 (a) b (c) S 1 12 12 0 -1 4194304 95 0 0 0 7 5 0 0 20 0 1 0 88 0 0";
        assert_eq!(parse_stat(text), Some(12));
        assert_eq!(parse_stat("12 (cut) S 1"), None);
    }

    #[test]
    fn threads_are_summed_and_new_ones_counted_whole() {
        let before = sample(&[(1, 100), (2, 50)], 0);
        let after = sample(&[(1, 180), (2, 50), (3, 7)], 0);
        assert_eq!(after.ns_since(&before), 87);
    }

    #[test]
    fn an_ended_thread_falls_back_to_ticks() {
        let before = sample(&[(1, 100), (2, 50)], 10);
        let after = sample(&[(1, 180)], 13);
        assert_eq!(after.ns_since(&before), 30_000_000);
    }

    #[test]
    fn sizes_are_read_in_bytes() {
        let text = "Rss:                1844 kB\nPss:                 397 kB\n";
        assert_eq!(parse_kb(text, "Pss:"), Some(397 * 1024));
        assert_eq!(parse_kb(text, "Private_Dirty:"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        let before = CpuSample::take(pid).unwrap();
        assert!(Memory::take(pid).unwrap().rss > 100_000);
        let mut waste = 0_u64;
        while CpuSample::take(pid).unwrap().ns_since(&before) == 0 {
            waste = waste.wrapping_mul(31).wrapping_add(7);
        }
        assert!(CpuSample::take(u32::MAX).is_err());
        std::hint::black_box(waste);
    }
}
