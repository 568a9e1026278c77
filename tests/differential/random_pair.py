"""Random sequences against RabbitMQ and Wherry at once, compared step by step. The same for AMQP
and STOMP.

`WHERRY_SEEDS=1000:1100` chooses other seeds than the fixed ones. A failing sequence is made shorter
by leaving steps out before it is reported. Skipped where RabbitMQ is not installed.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from differential.shrink import shrink
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pair = tuple[brokers.Broker, brokers.Broker]
Steps = list[Any]

# What was seen after each step, of one broker.
Observations = list[Any]

# At which step the two differ, and what each did then.
Difference = tuple[int, Any, Any]


def seeds(usual: int) -> range:
    """Those chosen, or so many fixed ones."""
    first, _, last = os.environ.get("WHERRY_SEEDS", f"0:{usual}").partition(":")
    return range(int(first), int(last))


def pair(**options: Any) -> Iterator[Pair]:
    """Both brokers, for a fixture; `options` are of `brokers.start`."""
    reference = os.environ.get("WHERRY_TEST_REFERENCE", "rabbitmq")
    try:
        with brokers.start(reference, **options) as first, brokers.start(**options) as second:
            yield first, second
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))


def check(
    pair: Pair,
    seed: int,
    steps: Steps,
    *,
    observe: Callable[[brokers.Broker, Steps], Observations],
    differ: Callable[[Steps, Observations, Observations], Difference | None],
    needed: Callable[[Any], bool],
) -> None:
    """The two brokers answer alike.

    Args:
        observe: carries out steps at one broker.
        differ: the first difference, if there is one.
        needed: whether a step cannot be left out to make the sequence shorter.
    """

    def difference(steps: Steps) -> Difference | None:
        first, second = (json.loads(json.dumps(observe(broker, steps))) for broker in pair)
        return differ(steps, first, second)

    found = difference(steps)
    if found is None:
        return
    steps = steps[: found[0] + 1]
    # A difference that does not come again was a matter of timing between queues, which nobody
    # promises.
    again = difference(steps)
    if again is None:
        return
    steps = shrink(steps, needed, lambda fewer: difference(fewer) is not None)
    found = difference(steps) or again
    listing = "\n".join(json.dumps(step) for step in steps)
    pytest.fail(
        f"seed {seed}\n{listing}\n"
        f"{pair[0].kind}: {json.dumps(found[1])}\n"
        f"{pair[1].kind}: {json.dumps(found[2])}",
        pytrace=False,
    )
