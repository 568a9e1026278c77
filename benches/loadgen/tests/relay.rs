//! The relay passes on all, in order, as it came, for every load that a bench puts on it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wherry-loadgen");

struct Relay {
    process: Child,
    port: String,
}

impl Relay {
    fn start() -> Relay {
        let mut process = Command::new(PROGRAM)
            .args(["relay", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut port)
            .expect("it tells its port");
        Relay {
            process,
            port: port.trim().to_owned(),
        }
    }

    fn load(&self, line: &str) -> Value {
        let done = Command::new(PROGRAM)
            .args(line.split_whitespace())
            .args(["--port", &self.port])
            .output()
            .expect("the program runs");
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success(),
            "{line}: {told}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        serde_json::from_str(&told).expect("JSON")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().expect("it runs until it is ended");
        self.process.wait().expect("ended");
    }
}

#[test]
fn everything_comes_through() {
    let relay = Relay::start();
    for (line, expected) in [
        ("throughput --count 5000", 5000),
        (
            "throughput --count 5000 --confirms 192 --prefetch 200 --ack-every 100",
            5000,
        ),
        (
            "throughput --count 500 --producers 3 --consumers 2 --queues 10 --confirms 50",
            1500,
        ),
        (
            "throughput --count 500 --fanout --queues 10 --confirms 100",
            5000,
        ),
        ("throughput --count 20 --bytes 300000 --confirms 5", 20),
        ("latency --count 500 --bytes 32 --rate 10000", 500),
    ] {
        let report = relay.load(line);
        assert_eq!(
            (&report["clean"], &report["received"]),
            (&true.into(), &expected.into()),
            "{line}"
        );
    }
}
