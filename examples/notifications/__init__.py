"""People follow people: an example of notifications that are pushed, and of what stands behind.

`program` puts the parts together; `store` is the application's own database, `outbox` brings what
is in it to the broker, `mailboxes` is what the broker keeps for each user, `presence` is who is
online, `accounts` is who may connect, `web` is the page and its HTTP API.
"""
