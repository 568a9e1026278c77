//! Policies of a virtual host. Nothing here is called once per message.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use wherry_engine::{Exchange, NewPolicy, Policy, Queue};

use crate::errors::Result;
use crate::headers;
use crate::host::VirtualHost;
use crate::whole;

/// Sets a policy; what of it has no effect, a line each, and a receipt.
#[pyfunction]
#[pyo3(signature = (host, name, pattern, definition, *, apply_to="all", priority=0, operator=false))]
#[expect(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub(crate) fn set_policy(
    py: Python<'_>,
    host: &VirtualHost,
    name: &str,
    pattern: &str,
    definition: &Bound<'_, PyDict>,
    apply_to: &str,
    #[pyo3(from_py_with = whole::priority)] priority: i64,
    operator: bool,
) -> Result<(Vec<String>, u64)> {
    let new = NewPolicy {
        name: name.into(),
        operator,
        pattern: pattern.into(),
        applies_to: apply_to.parse()?,
        priority,
        definition: headers::table("definition", definition)?,
    };
    let _call = host.shared.enter();
    let (policy, ticket) = py.detach(|| host.host.set_policy(new))?;
    Ok((policy.notes(), ticket.0))
}

/// Clears a policy; whether there was one, and a receipt.
#[pyfunction]
#[pyo3(signature = (host, name, *, operator=false))]
pub(crate) fn clear_policy(
    py: Python<'_>,
    host: &VirtualHost,
    name: &str,
    operator: bool,
) -> Result<(bool, u64)> {
    let _call = host.shared.enter();
    let (was_there, ticket) = py.detach(|| host.host.clear_policy(name, operator))?;
    Ok((was_there, ticket.0))
}

/// All policies, those that act first first.
#[pyfunction]
pub(crate) fn policies<'py>(py: Python<'py>, host: &VirtualHost) -> Result<Bound<'py, PyList>> {
    host.shared.check_open()?;
    let result = PyList::empty(py);
    for policy in host.host.policies() {
        let policy = policy.as_set();
        let entry = PyDict::new(py);
        entry.set_item("name", &policy.name)?;
        entry.set_item("pattern", &policy.pattern)?;
        entry.set_item("apply_to", policy.applies_to.as_str())?;
        entry.set_item("priority", policy.priority)?;
        entry.set_item("definition", headers::dict(py, &policy.definition)?)?;
        entry.set_item("operator", policy.operator)?;
        result.append(entry)?;
    }
    Ok(result)
}

fn name(policy: Option<std::sync::Arc<Policy>>) -> Option<String> {
    policy.map(|policy| policy.name().to_owned())
}

/// The policy that acts on an exchange, and where messages go that no binding takes.
pub(crate) fn of_exchange<'py>(
    py: Python<'py>,
    exchange: &Exchange,
) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    result.set_item("policy", name(exchange.policy()))?;
    result.set_item("alternate_exchange", exchange.alternate_exchange())?;
    Ok(result)
}

/// The policies that act on a queue, and what they make of it together.
pub(crate) fn of_queue<'py>(py: Python<'py>, queue: &Queue) -> PyResult<Bound<'py, PyDict>> {
    let (policy, operator) = queue.policies();
    let result = PyDict::new(py);
    result.set_item("policy", name(policy))?;
    result.set_item("operator_policy", name(operator))?;
    let definition = headers::dict(py, &queue.policy_definition())?;
    result.set_item("effective_policy_definition", definition)?;
    Ok(result)
}
