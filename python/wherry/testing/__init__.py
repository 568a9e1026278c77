"""A real broker in a test: no container, no port to agree on, nothing left behind.

    with wherry.testing.broker() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.amqp_url))

It runs in memory, in a thread of its own. With pytest use the fixtures `wherry_broker` and
`wherry_vhost` (docs/testing.md).
"""

from wherry.testing._broker import TestBroker, TestVirtualHost, broker
from wherry.testing._faults import Faults

__all__ = ["Faults", "TestBroker", "TestVirtualHost", "broker"]
