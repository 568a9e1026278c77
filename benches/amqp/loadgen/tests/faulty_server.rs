//! The generator against a server that is made to misbehave: what it reports must be what the server did.
//!
//! The server here is as small as it can be: one queue, messages kept in a list, frames cut by their size alone. Real
//! servers are loaded by `benches/amqp/run.py`, which fails if a run is not clean.

use std::collections::VecDeque;
use std::io::{Read, Write};
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

#[derive(Default)]
struct Store {
    bodies: Mutex<VecDeque<Vec<u8>>>,
    arrived: Condvar,
}

#[test]
fn a_faithful_server_is_clean() {
    let report = load(Fault::None);
    assert_eq!(report["clean"], true, "{report}");
    assert_eq!(report["received"], 500);
    assert_eq!(report["sent"], 500);
}

#[test]
fn each_fault_is_told_by_its_name() {
    for (fault, name) in [
        (Fault::Lose(0), "lost"),
        (Fault::Lose(499), "lost"),
        (Fault::Double(7), "doubled"),
        (Fault::Invent(7), "invented"),
        (Fault::SwapWithNext(7), "out_of_order"),
        (Fault::Damage(64), "damaged"),
    ] {
        let report = load(fault);
        assert_eq!(report[name], 1, "{fault:?}: {report}");
        assert_eq!(report["clean"], false, "{fault:?}: {report}");
    }
}

#[test]
fn a_marked_double_and_a_refused_message_are_no_faults() {
    let report = load(Fault::DoubleMarked(7));
    assert_eq!(
        (&report["clean"], &report["redelivered"]),
        (&true.into(), &1.into())
    );
    let report = load(Fault::Nack(7));
    assert_eq!(
        (&report["clean"], &report["nacked"]),
        (&true.into(), &1.into())
    );
}

/// Publishes and consumes 500 messages; the exit status must agree with the report.
fn load(fault: Fault) -> Value {
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
            "--count",
            "500",
            "--bytes",
            "40",
            "--confirms",
            "50",
        ])
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

/// One connection: answers requests, keeps published bodies, sends them to who consumes.
fn serve(mut stream: TcpStream, store: &Arc<Store>, fault: Fault) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    write(
        &mut stream,
        0,
        10,
        10,
        b"\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US",
    )?;
    let mut tag = 0;
    loop {
        let (kind, channel, payload) = read_frame(&mut stream)?;
        if kind == 3 {
            tag += 1;
            let nack = keep(store, payload, fault);
            let mut arguments = u64::to_be_bytes(tag).to_vec();
            arguments.push(0);
            let method = if nack { 120 } else { 80 };
            write(&mut stream, channel, 60, method, &arguments)?;
            continue;
        }
        if kind != 1 {
            continue;
        }
        let (class, method) = (payload[1], payload[3]);
        match (class, method) {
            (10, 11) => write(&mut stream, 0, 10, 30, b"\x00\x00\x00\x02\x00\x00\x00\x00")?,
            (10, 31) | (60, 40 | 80) => {}
            (60, 20) => {
                let (stream, store) = (stream.try_clone()?, Arc::clone(store));
                thread::spawn(move || drop(deliver(stream, &store, fault)));
            }
            (50, 10) => write(&mut stream, channel, 50, 11, &[0; 9])?,
            (50, 40) => write(&mut stream, channel, 50, 41, &[0; 4])?,
            (20, 10) => write(&mut stream, channel, 20, 11, &[0; 4])?,
            (10, 40) => write(&mut stream, 0, 10, 41, &[0])?,
            _ => write(&mut stream, channel, class, method + 1, &[])?,
        }
    }
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

fn deliver(mut stream: TcpStream, store: &Store, fault: Fault) -> std::io::Result<()> {
    let mut held: Option<Vec<u8>> = None;
    loop {
        let mut bodies = store.bodies.lock().expect("no panic");
        while bodies.is_empty() {
            bodies = store.arrived.wait(bodies).expect("no panic");
        }
        let mut body = bodies.pop_front().expect("not empty");
        drop(bodies);
        match fault {
            Fault::Double(n) if n == sequence(&body) => send(&mut stream, &body, false)?,
            Fault::SwapWithNext(n) if n == sequence(&body) => {
                held = Some(body);
                continue;
            }
            Fault::Invent(n) if n == sequence(&body) => {
                let mut other = body.clone();
                other[8..16].copy_from_slice(&9_999u64.to_be_bytes());
                send(&mut stream, &other, false)?;
            }
            Fault::Damage(n) if n == sequence(&body) => body[39] ^= 1,
            _ => {}
        }
        send(&mut stream, &body, false)?;
        if matches!(fault, Fault::DoubleMarked(n) if n == sequence(&body)) {
            send(&mut stream, &body, true)?;
        }
        if let Some(body) = held.take() {
            send(&mut stream, &body, false)?;
        }
    }
}

fn send(stream: &mut TcpStream, body: &[u8], redelivered: bool) -> std::io::Result<()> {
    let mut deliver = b"\x010\x00\x00\x00\x00\x00\x00\x00\x01".to_vec();
    deliver.extend_from_slice(&[u8::from(redelivered), 0, 0]);
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    let mut out = Vec::new();
    frame(&mut out, 1, 1, &[&[0, 60, 0, 60], &deliver[..]].concat());
    frame(&mut out, 2, 1, &header);
    frame(&mut out, 3, 1, body);
    stream.write_all(&out)
}

fn write(
    stream: &mut TcpStream,
    channel: u16,
    class: u8,
    method: u8,
    arguments: &[u8],
) -> std::io::Result<()> {
    let mut out = Vec::new();
    frame(
        &mut out,
        1,
        channel,
        &[&[0, class, 0, method], arguments].concat(),
    );
    stream.write_all(&out)
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_be_bytes());
    out.extend_from_slice(payload);
    out.push(0xCE);
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, u16, Vec<u8>)> {
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let [kind, c0, c1, s0, s1, s2, s3] = head;
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    let mut payload = vec![0; size + 1];
    stream.read_exact(&mut payload)?;
    payload.pop();
    Ok((kind, u16::from_be_bytes([c0, c1]), payload))
}
