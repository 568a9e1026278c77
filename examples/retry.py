"""A consumer that fails: attempts with growing pauses, then the dead-letter queue.

The clock is virtual, so the pauses take no time here; leave `clock=` out for the real one.
"""

import trio

import wherry


async def main() -> None:
    clock = wherry.VirtualClock(start=0)
    async with wherry.open(clock=clock) as broker:
        retry = wherry.Retry(attempts=3, first=10, factor=6, dead_letter="mails.failed")
        mails = await broker.declare_queue("mails", retry=retry)
        await broker.default_exchange.publish(b"to: nobody", "mails")

        async with mails.consume() as deliveries:
            for pause in (0, 10, 60):
                clock.advance(seconds=pause)
                (delivery,) = await deliveries.take(1)
                print("attempt", delivery.delivery_count + 1, "at", clock.now())
                delivery.nack()  # what `async with delivery:` does on an exception
        # prints: attempt 1 at 0.0
        # prints: attempt 2 at 10.0
        # prints: attempt 3 at 70.0

        failed = await broker.queue("mails.failed").get()
        print(failed.body, [(death.queue, death.reason) for death in failed.deaths])
        # prints: b'to: nobody' [('mails', 'delivery_limit')]


trio.run(main)
