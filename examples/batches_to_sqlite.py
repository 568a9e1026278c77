"""Prices into a database: written and acknowledged in batches, none lost, none counted twice.

The message's id is written in the same transaction as its effect. If the process dies between the
commit and the acknowledgement, the message comes again and is left out by its id.
"""

import sqlite3

import trio

import wherry

SCHEMA = "CREATE TABLE IF NOT EXISTS prices (id INTEGER PRIMARY KEY, symbol TEXT, price REAL)"


async def main() -> None:
    database = sqlite3.connect("prices.sqlite")
    database.execute(SCHEMA)
    async with wherry.open("prices.wherry") as broker:
        ticks = await broker.declare_queue("ticks")
        await ticks.bind("amq.topic", "price.*")
        messages = [
            wherry.Message(f"{100 + number / 8}".encode(), "price.ACME", message_id=str(number))
            for number in range(1000)
        ]
        await broker.exchange("amq.topic").publish_many(messages)

        written = 0
        async with ticks.batches(max_messages=500, max_seconds=1) as batches:
            async for batch in batches:
                async with batch:  # acknowledged together, if the commit went well
                    rows = [
                        (int(tick.message_id), tick.routing_key.split(".")[1], float(tick.body))
                        for tick in batch
                    ]
                    with database:
                        database.executemany("INSERT OR IGNORE INTO prices VALUES (?, ?, ?)", rows)
                written += len(rows)
                if written == 1000:
                    break
    print(database.execute("SELECT count(*), max(price) FROM prices").fetchone())
    # prints: (1000, 224.875)
    database.close()


trio.run(main)
