"""Updates of many entities: each entity's in order, one at a time; all entities in parallel."""

import trio

import wherry


async def main() -> None:
    async with wherry.open() as broker:
        updates = await broker.declare_exchange("updates", "topic")
        accounts = await broker.declare_queue("accounts", group_by="account")
        await accounts.bind(updates, "account.#")

        for amount in (100, -30, -50):
            for account in ("alice", "bob"):
                body = str(amount).encode()
                await updates.publish(body, "account.changed", headers={"account": account})

        balances = {"alice": 0, "bob": 0}
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                async with accounts.consume(prefetch=1) as deliveries:
                    async for delivery in deliveries:
                        async with delivery:
                            account = delivery.headers["account"]
                            before = balances[account]
                            await trio.lowlevel.checkpoint()  # another worker may run here...
                            balances[account] = before + int(delivery.body)  # ...on another account
                        if balances == {"alice": 20, "bob": 20}:
                            nursery.cancel_scope.cancel()

            for _ in range(4):
                nursery.start_soon(work)
        print(balances)
        # prints: {'alice': 20, 'bob': 20}


trio.run(main)
