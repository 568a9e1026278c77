//! An awaitable that is finished already: what `__anext__` and `__aexit__` return when there is nothing to wait for.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

/// Awaiting it gives the value at once, without a turn of the event loop.
#[pyclass(frozen, module = "wherry._core", freelist = 64)]
pub(crate) struct Completed {
    value: Py<PyAny>,
}

impl Completed {
    pub(crate) fn new(value: Py<PyAny>) -> Self {
        Completed { value }
    }
}

#[pymethods]
impl Completed {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        Err(PyStopIteration::new_err((self.value.clone_ref(py),)))
    }
}
