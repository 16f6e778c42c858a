//! The memory of this process.

/// The resident memory of this process in bytes, and the most that it was. `None` where the operating system does not
/// tell; Linux does.
pub(crate) fn resident() -> Option<(u64, u64)> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    // A file that the kernel writes when it is read: no device is waited for.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some((bytes(&status, "VmRSS:")?, bytes(&status, "VmHWM:")?))
}

/// The value of a line such as `VmRSS:     1234 kB`.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_read_in_bytes() {
        let status = "Name:\throtti\nVmHWM:\t    2048 kB\nVmRSS:\t       3 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(3_072));
        assert_eq!(bytes(status, "VmHWM:"), Some(2_097_152));
        assert_eq!(bytes(status, "VmSwap:"), None);
        assert_eq!(bytes("VmRSS:\t x kB", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_memory_where_the_system_tells() {
        match resident() {
            Some((now, most)) => assert!(now > 100_000 && most >= now, "{now} {most}"),
            None => assert!(!cfg!(target_os = "linux")),
        }
    }
}
