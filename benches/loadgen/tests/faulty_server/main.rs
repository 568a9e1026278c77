//! The generator against a server that is made to misbehave: what it reports must be what the server did.
//!
//! The servers here are as small as they can be: one queue, messages kept in a list, frames cut by their size alone. Real
//! servers are loaded by `benches/network/run.py`, which fails if a run is not clean.

mod amqp;
mod stomp;

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;

/// What the server does to the message with this sequence number.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Lose(u64),
    Double(u64),
    DoubleMarked(u64),
    Invent(u64),
    SwapWithNext(u64),
    Damage(u64),
    Nack(u64),
}

type Serve = fn(TcpStream, &Arc<Store>, Fault) -> std::io::Result<()>;

const PROTOCOLS: [(&str, Serve); 2] = [("amqp", amqp::serve), ("stomp", stomp::serve)];

#[derive(Default)]
struct Store {
    bodies: Mutex<VecDeque<Vec<u8>>>,
    arrived: Condvar,
}

#[test]
fn a_faithful_server_is_clean() {
    for protocol in PROTOCOLS {
        let report = load(protocol, Fault::None);
        assert_eq!(report["clean"], true, "{report}");
        assert_eq!(report["received"], 500);
        assert_eq!(report["sent"], 500);
    }
}

#[test]
fn each_fault_is_told_by_its_name() {
    for protocol in PROTOCOLS {
        for (fault, name) in [
            (Fault::Lose(0), "lost"),
            (Fault::Lose(499), "lost"),
            (Fault::Double(7), "doubled"),
            (Fault::Invent(7), "invented"),
            (Fault::SwapWithNext(7), "out_of_order"),
            (Fault::Damage(64), "damaged"),
        ] {
            let report = load(protocol, fault);
            assert_eq!(report[name], 1, "{fault:?}: {report}");
            assert_eq!(report["clean"], false, "{fault:?}: {report}");
        }
    }
}

#[test]
fn a_marked_double_is_no_fault() {
    for protocol in PROTOCOLS {
        let report = load(protocol, Fault::DoubleMarked(7));
        assert_eq!(
            (&report["clean"], &report["redelivered"]),
            (&true.into(), &1.into())
        );
    }
}

/// STOMP has no such answer.
#[test]
fn a_refused_message_is_no_fault() {
    let report = load(PROTOCOLS[0], Fault::Nack(7));
    assert_eq!(
        (&report["clean"], &report["nacked"]),
        (&true.into(), &1.into())
    );
}

/// STOMP's have none.
#[test]
fn the_order_of_an_entity_is_watched() {
    let of_one = ["--entities", "1", "--ack-every", "1"];
    let report = load_with(PROTOCOLS[0], Fault::None, &of_one);
    assert_eq!(report["clean"], true, "{report}");
    let report = load_with(PROTOCOLS[0], Fault::SwapWithNext(7), &of_one);
    assert_eq!(report["out_of_order"], 1, "{report}");
    // Of those that are swapped here, each is another entity's.
    let of_many = ["--entities", "1000000", "--ack-every", "1"];
    let report = load_with(PROTOCOLS[0], Fault::SwapWithNext(7), &of_many);
    assert_eq!(report["clean"], true, "{report}");
}

fn load(protocol: (&str, Serve), fault: Fault) -> Value {
    load_with(protocol, fault, &[])
}

/// Publishes and consumes 500 messages; the exit status must agree with the report.
fn load_with((protocol, serve): (&str, Serve), fault: Fault, options: &[&str]) -> Value {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let store = Arc::new(Store::default());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            // A client that goes away ends its thread by an error; the report tells what matters.
            thread::spawn(move || drop(serve(stream, &store, fault)));
        }
    });
    let done = Command::new(env!("CARGO_BIN_EXE_wherry-loadgen"))
        .args([
            "throughput",
            "--protocol",
            protocol,
            "--count",
            "500",
            "--bytes",
            "40",
            "--confirms",
            "50",
        ])
        .args(options)
        .args([
            "--seconds",
            "20",
            "--drain",
            "0.2",
            "--port",
            &port.to_string(),
        ])
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&done.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(
        Value::Bool(done.status.success()),
        report["clean"],
        "{report}"
    );
    report
}

/// Keeps a body; true if the fault is to refuse it.
fn keep(store: &Store, body: Vec<u8>, fault: Fault) -> bool {
    let sequence = sequence(&body);
    let gone = matches!(fault, Fault::Lose(n) | Fault::Nack(n) if n == sequence);
    if !gone {
        store.bodies.lock().expect("no panic").push_back(body);
        store.arrived.notify_one();
    }
    gone && matches!(fault, Fault::Nack(_))
}

fn sequence(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[8..16].try_into().expect("8 bytes"))
}

/// Hands out what is kept, with the fault. `send`: writes one body, marked as redelivered or not.
fn deliver(
    store: &Store,
    fault: Fault,
    mut send: impl FnMut(&[u8], bool) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut held: Option<Vec<u8>> = None;
    loop {
        let mut bodies = store.bodies.lock().expect("no panic");
        while bodies.is_empty() {
            bodies = store.arrived.wait(bodies).expect("no panic");
        }
        let mut body = bodies.pop_front().expect("not empty");
        drop(bodies);
        match fault {
            Fault::Double(n) if n == sequence(&body) => send(&body, false)?,
            Fault::SwapWithNext(n) if n == sequence(&body) => {
                held = Some(body);
                continue;
            }
            Fault::Invent(n) if n == sequence(&body) => {
                let mut other = body.clone();
                other[8..16].copy_from_slice(&9_999u64.to_be_bytes());
                send(&other, false)?;
            }
            Fault::Damage(n) if n == sequence(&body) => body[39] ^= 1,
            _ => {}
        }
        send(&body, false)?;
        if matches!(fault, Fault::DoubleMarked(n) if n == sequence(&body)) {
            send(&body, true)?;
        }
        if let Some(body) = held.take() {
            send(&body, false)?;
        }
    }
}
