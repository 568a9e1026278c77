"""Plain publish-subscribe under asyncio: every subscriber gets what matches its pattern."""

import asyncio

import wherry


async def main() -> None:
    async with (
        wherry.open() as broker,
        broker.subscribe("weather.*") as all_weather,
        broker.subscribe("weather.berlin") as berlin,
    ):
        await broker.publish("weather.paris", b"sun")
        await broker.publish("weather.berlin", b"rain")

        for name, subscription, expected in (("all", all_weather, 2), ("berlin", berlin, 1)):
            for _ in range(expected):
                delivery = await anext(aiter(subscription))
                print(name, delivery.routing_key, delivery.body)
    # prints: all weather.paris b'sun'
    # prints: all weather.berlin b'rain'
    # prints: berlin weather.berlin b'rain'


asyncio.run(main())
