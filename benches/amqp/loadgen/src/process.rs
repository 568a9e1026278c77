//! What the server's process used: resident memory and processor time, from /proc (Linux). Our own processor time too, so
//! that a reader can see whether the load was the bottleneck.

use std::fs;

/// Resident bytes and processor seconds of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) processor_seconds: f64,
}

/// None if there is no such process, or no /proc.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().trim_end_matches("kB").trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields are counted from behind it, utime and stime are 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let ticks: u64 = ticks.next()?.parse::<u64>().ok()? + ticks.next()?.parse::<u64>().ok()?;
    Some(Usage {
        resident_bytes: kib * 1024,
        processor_seconds: ticks as f64 / ticks_per_second(),
    })
}

/// Processor seconds of this process.
pub(crate) fn own_processor_seconds() -> f64 {
    usage(std::process::id()).map_or(0.0, |usage| usage.processor_seconds)
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf has no precondition.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Lets this thread's timers fire when they are due instead of up to 50 us later (Linux; elsewhere nothing).
pub(crate) fn sharpen_timers() {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_TIMERSLACK takes one unsigned long and touches only this thread's timer slack.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_missing_one_has_not() {
        let own = usage(std::process::id()).expect("/proc");
        assert!(own.resident_bytes > 100_000);
        assert!(usage(u32::MAX).is_none());
    }
}
