"""Async tests run under trio and under asyncio: `async def test_x(...)` is two tests.

A test that is about one of them says so with `@pytest.mark.only("trio")` or `only("asyncio")`.
Under trio, `@pytest.mark.autojump` runs it on a clock that jumps over every wait.
"""

from __future__ import annotations

import functools
import gc
import inspect
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import helpers

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell may start what runs in the background with Ctrl-C ignored, and programs inherit that:
# tests that interrupt one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("slow", max_examples=2000, deadline=None)
settings.load_profile("fast")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(loop): an async test for one event loop library")
    config.addinivalue_line("markers", "autojump: time jumps over every wait (trio)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        only = metafunc.definition.get_closest_marker("only")
        loops = list(only.args) if only else ["trio", "asyncio"]
        metafunc.fixturenames.append("event_loop_library")
        metafunc.parametrize("event_loop_library", loops)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    funcargs = pyfuncitem.funcargs
    library: str = pyfuncitem.callspec.params["event_loop_library"]
    names = inspect.signature(pyfuncitem.obj).parameters
    test = functools.partial(pyfuncitem.obj, **{name: funcargs[name] for name in names})
    autojump = pyfuncitem.get_closest_marker("autojump") is not None
    helpers.run(library, test, autojump=autojump)
    return True


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """The test leaves no reference cycle that the collector would have to find."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.enable()
