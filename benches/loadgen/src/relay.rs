//! What is left of a broker when everything of it is taken away: a process that passes on bytes.
//!
//! Its latency is what this machine, at this time, takes for two sockets and a process between them. What a server under the
//! same load shows above it is the server's.
//!
//! A thread for each connection blocks on its read and writes what it got, as it is, to the connection that consumes.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::body::STAMP_BYTES;
use crate::link::Failure;

/// What a connection that wants to consume begins with: a stamp that no producer has, as all begin at number 0.
pub(crate) const CONSUME: [u8; STAMP_BYTES] = [0xff; STAMP_BYTES];
/// As much as a server reads at once, or more.
const READ_BYTES: usize = 64 * 1024;

/// The connection that consumes, if there is one.
type Consumer = Arc<Mutex<Option<TcpStream>>>;

/// Listens and passes on from one producer to one consumer, until the process is ended. Prints the port first: 0 asks for any
/// that is free.
pub(crate) fn serve(address: SocketAddr) -> Result<Infallible, Failure> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?.port());
    let consumer = Consumer::default();
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let consumer = Arc::clone(&consumer);
        // A connection that breaks is the affair of the two that use it: they miss what was to come.
        thread::spawn(move || pass_on(stream, &consumer));
    }
}

fn pass_on(mut stream: TcpStream, consumer: &Consumer) -> std::io::Result<()> {
    let mut first = [0; STAMP_BYTES];
    stream.read_exact(&mut first)?;
    let lock = || consumer.lock().expect("nobody panics with it");
    if first == CONSUME {
        *lock() = Some(stream.try_clone()?);
        stream.write_all(&CONSUME)?; // its producers may begin
        stream.read_to_end(&mut Vec::new())?;
        *lock() = None;
        return Ok(());
    }
    let mut bytes = vec![0; READ_BYTES];
    bytes[..STAMP_BYTES].copy_from_slice(&first);
    let mut length = STAMP_BYTES;
    while length > 0 {
        if let Some(to) = lock().as_mut() {
            to.write_all(&bytes[..length])?;
        }
        length = stream.read(&mut bytes)?;
    }
    Ok(())
}
