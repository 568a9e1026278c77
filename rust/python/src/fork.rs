//! Forked processes. A child has its parent's memory, but not the threads that write the journal and keep time: it could
//! wait for ever, or write what the parent writes as well. So in a child every broker of the parent is closed at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::shared::Shared;

/// Every broker of this process. Held only with the interpreter, which whoever forks has: so never at a fork.
static OPEN: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Whether Python was asked to call `abandon_all`. Relaxed: once more does no harm.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Has a broker closed in processes that are forked from now on.
pub(crate) fn remember(py: Python<'_>, broker: &Arc<Shared>) -> PyResult<()> {
    let os = py.import("os")?;
    if !HOOKED.swap(true, Ordering::Relaxed) && os.hasattr("register_at_fork")? {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(abandon_all, py)?)?;
        os.call_method("register_at_fork", (), Some(&hooks))?;
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|known| known.strong_count() > 0);
    open.push(Arc::downgrade(broker));
    Ok(())
}

/// Runs in the child, before anything else there.
#[pyfunction]
fn abandon_all() {
    // Without the interpreter's lock another thread may have had it; then there is nobody who could give it back.
    if let Ok(open) = OPEN.try_lock() {
        for broker in open.iter().filter_map(Weak::upgrade) {
            broker.abandon();
        }
    }
}
