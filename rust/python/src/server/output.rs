//! Output for a socket, handed to Python as it lies.

use std::ffi::c_int;
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::front::Shared;

/// From so many bytes on output is lent instead of copied: below, a copy costs less than the objects around it.
const LENT_BYTES_MIN: usize = 32 << 10;

/// Bytes whose memory goes back to the front end when nobody looks at them any more.
#[pyclass(frozen, module = "wherry._core")]
struct Output {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

#[pymethods]
impl Output {
    /// For readers only.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no place for the view"));
        }
        let bytes = &slf.get().bytes;
        let length = isize::try_from(bytes.len())?;
        // SAFETY: `view` is valid, as Python calls this. The bytes lie where they are as long as `slf` lives, to which the
        // view gets a reference of its own, and nobody changes them: the class is frozen, and the view read-only.
        let filled = unsafe {
            let start = bytes.as_ptr().cast_mut().cast();
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags)
        };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.shared
            .give_back_output(std::mem::take(&mut self.bytes));
    }
}

/// What was borrowed of the front end and written to, for Python: `bytes`, or a read-only `memoryview` of many. None of
/// nothing.
pub(super) fn hand_over<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    bytes: Vec<u8>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if bytes.len() < LENT_BYTES_MIN {
        let copy = (!bytes.is_empty()).then(|| PyBytes::new(py, &bytes).into_any());
        shared.give_back_output(bytes);
        return Ok(copy);
    }
    let shared = Arc::clone(shared);
    let output = Bound::new(py, Output { bytes, shared })?;
    Ok(Some(PyMemoryView::from(output.as_any())?.into_any()))
}
