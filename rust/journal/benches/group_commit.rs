//! Group commit against the disk, beside a raw floor in the same run.

fn main() {}
