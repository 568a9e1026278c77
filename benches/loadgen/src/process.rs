//! What the server's process used: resident memory and processor time, from /proc (Linux). Our own processor time too, so
//! that a reader can see whether the load was the bottleneck, and the machine's, which tells what others took.

use std::fs;

/// Resident bytes (of its own, without mapped files) and processor seconds of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) processor_seconds: f64,
}

/// None if there is no such process, or no /proc.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // Without mapped files: their pages come and go as the kernel likes.
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
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

/// Processor seconds that all processes and the kernel used since the machine started, and those of all processors
/// together, used or not.
pub(crate) fn machine_seconds() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut ticks = line
        .split_whitespace()
        .map_while(|field| field.parse::<u64>().ok());
    // user nice system idle iowait irq softirq steal; what follows is contained in user and nice.
    let fields: [u64; 8] = std::array::from_fn(|_| ticks.next().unwrap_or(0));
    let all: u64 = fields.iter().sum();
    let idle = fields[3] + fields[4];
    let scale = ticks_per_second();
    Some(((all - idle) as f64 / scale, all as f64 / scale))
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
    fn a_machine_is_not_busier_than_it_is_large() {
        let (busy, all) = machine_seconds().expect("/proc");
        assert!(0.0 < busy && busy < all);
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_has_not() {
        let own = usage(std::process::id()).expect("/proc");
        assert!(own.resident_bytes > 100_000);
        assert!(usage(u32::MAX).is_none());
    }
}
