//! What the operating system says of the process: Linux alone says it here.

/// Figures of the process, in the units of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_secs: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    /// `None`: there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) threads: u64,
    /// Seconds since 1970. `None`: a sandbox hides when the system started, as `ProcSubset=pid` of systemd does.
    pub(super) started: Option<f64>,
}

/// `None` where the system does not say.
pub(super) fn read() -> Option<Process> {
    #[cfg(target_os = "linux")]
    return linux::read();
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::param::clock_ticks_per_second;
    use rustix::process::{Resource, getrlimit};

    use super::Process;
    use crate::runtime::memory;

    pub(super) fn read() -> Option<Process> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in brackets, may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        // The first is the third of proc(5).
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = clock_ticks_per_second();
        let seconds = |ticks_of: u64| exact(ticks_of) / exact(ticks);
        Some(Process {
            cpu_secs: seconds(field(14)? + field(15)?),
            resident_bytes: memory::resident()?.0,
            virtual_bytes: field(23)?,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: getrlimit(Resource::Nofile).current,
            threads: field(20)?,
            started: boot_time().and_then(|boot| Some(exact(boot) + seconds(field(22)?))),
        })
    }

    /// Seconds from 1970 to the start of the system.
    fn boot_time() -> Option<u64> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds need no more than 53 bits")]
    fn exact(number: u64) -> f64 {
        number as f64
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let process = read().expect("Linux says it");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(
            process.started.is_none_or(|at| at < since + 1.0 && at > since - 86_400.0 * 365.0),
            "{process:?}"
        );
        assert!(
            process.resident_bytes > 100_000 && process.virtual_bytes >= process.resident_bytes
        );
        assert!(process.open_fds >= 3 && process.threads >= 1, "{process:?}");
        assert!(process.max_fds.is_none_or(|max| max >= process.open_fds), "{process:?}");
    }
}
