//! A faulty server of AMQP 0-9-1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use crate::{Fault, Store, deliver, keep};

/// One connection: answers requests, keeps published bodies, sends them to who consumes.
pub(crate) fn serve(
    mut stream: TcpStream,
    store: &Arc<Store>,
    fault: Fault,
) -> std::io::Result<()> {
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
                let (mut stream, store) = (stream.try_clone()?, Arc::clone(store));
                thread::spawn(move || {
                    let send = |body: &[u8], redelivered| send(&mut stream, body, redelivered);
                    drop(deliver(&store, fault, send));
                });
            }
            (50, 10) => write(&mut stream, channel, 50, 11, &[0; 9])?,
            (50, 40) => write(&mut stream, channel, 50, 41, &[0; 4])?,
            (20, 10) => write(&mut stream, channel, 20, 11, &[0; 4])?,
            (10, 40) => write(&mut stream, 0, 10, 41, &[0])?,
            _ => write(&mut stream, channel, class, method + 1, &[])?,
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
