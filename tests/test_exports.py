"""The public names: complete, documented, and as the type checkers see them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wherry
from wherry import _core, blocking

PACKAGE = Path(wherry.__file__).parent

CLASSES = [
    value
    for module in (wherry, blocking)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
]


def test_all_names_what_there_is() -> None:
    for module in (wherry, blocking):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), name


def test_stub_and_extension_have_the_same_names() -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    in_stub = {node.name for node in stub.body if isinstance(node, ast.ClassDef)}
    at_run_time = {name for name, value in vars(_core).items() if isinstance(value, type)}
    assert in_stub == at_run_time
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            methods = {
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("__")
            }
            methods |= {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
            real = {name for name in vars(getattr(_core, node.name)) if not name.startswith("__")}
            assert methods == real, node.name


def public_members(cls: type[Any]) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in inspect.getmembers(cls)
        if not name.startswith("_")
        and (callable(value) or isinstance(value, property) or inspect.isdatadescriptor(value))
    ]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_everything_public_is_documented(cls: type[Any]) -> None:
    assert cls.__doc__, cls
    if issubclass(cls, dict | int | Exception):
        return
    for name, value in public_members(cls):
        if name in getattr(cls, "__slots__", ()):
            continue  # fields are documented in the source
        assert inspect.getdoc(value), f"{cls.__qualname__}.{name}"


def test_awaiting_and_blocking_have_the_same_names() -> None:
    renamed = {"aclose": "close"}
    for name in (
        "Broker",
        "VirtualHost",
        "Exchange",
        "Queue",
        "Consumer",
        "ConsumerWatch",
        "Batches",
    ):
        one = {renamed.get(n, n) for n, _ in public_members(getattr(wherry, name))}
        two = {n for n, _ in public_members(getattr(blocking, name))}
        assert one - two <= {"blocking"}, name
        assert two - one == set(), name


@pytest.mark.parametrize(
    "make",
    [
        lambda: wherry.Delivery(),  # type: ignore[call-arg]
        lambda: wherry.Transaction(),  # type: ignore[call-arg]
        lambda: wherry.Clock(),
    ],
)
def test_what_the_broker_makes_cannot_be_made_by_hand(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


def test_importing_is_quick_and_brings_no_event_loop() -> None:
    code = (
        "import sys, wherry; print([m for m in ('trio', 'asyncio', 'click') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output.strip() == "[]"


def test_it_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
