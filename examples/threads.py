"""Plain threads: the blocking twin has the same names, without `await`."""

import threading

from wherry import blocking


def work(queue: blocking.Queue, done: list[bytes], count: int) -> None:
    with queue.consume(prefetch=10) as consumer:
        for _ in range(count):
            (delivery,) = consumer.take(1)
            with delivery:
                done.append(delivery.body)


with blocking.open("jobs.wherry") as broker:
    jobs = broker.declare_queue("jobs")
    done: list[bytes] = []
    workers = [threading.Thread(target=work, args=(jobs, done, 5)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(10):
        broker.default_exchange.publish(str(number).encode(), "jobs")
    for worker in workers:
        worker.join()
    print(sorted(done))
    # prints: [b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9']
