//! Load for servers of AMQP 0-9-1 and STOMP, and a check of what comes back: `wherry-loadgen --help`.
//!
//! Raw blocking sockets and plain threads, one a connection; no client library, so that the server is what is measured.
//! `benches/network/run.py` drives it; `benches/README.md` says what the figures mean.

mod body;
mod consumer;
mod counter;
mod entities;
mod link;
mod modes;
mod options;
mod process;
mod progress;
mod publisher;
mod relay;
mod report;
mod stage;
mod tally;
mod wire;

use std::process::ExitCode;

use crate::options::Protocol;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("wherry-loadgen: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match options.protocol {
        Protocol::Amqp => modes::run::<wire::amqp::Amqp>(&options),
        Protocol::Stomp => modes::run::<wire::stomp::Stomp>(&options),
    };
    match done {
        Ok(report) => {
            let clean = report.get("clean") != Some(&serde_json::Value::Bool(false));
            println!("{}", serde_json::Value::Object(report));
            if clean {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("wherry-loadgen: {error}");
            ExitCode::from(2)
        }
    }
}
