//! Random conversations of three clients with one server: the invariants are those of the interpreter, which the property
//! test of rust/amqp shares.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../rust/amqp/tests/session/script.rs"]
mod script;

fuzz_target!(|input: &[u8]| script::play(input));
