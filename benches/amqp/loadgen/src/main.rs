//! Load for AMQP 0-9-1 servers, and a check of what comes back: `wherry-loadgen --help`.
//!
//! Raw blocking sockets and plain threads, one a connection; no client library, so that the server is what is measured.
//! `benches/amqp/run.py` drives it; `benches/README.md` says what the figures mean.

mod connection;
mod consumer;
mod modes;
mod options;
mod process;
mod publisher;
mod report;
mod run;
mod tally;
mod wire;

use std::process::ExitCode;

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
    match modes::run(&options) {
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
