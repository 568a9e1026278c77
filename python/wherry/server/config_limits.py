"""`[limits]` of the configuration (`config_schema`): what one peer, or all together, can make the
server hold.
"""

from typing import Annotated

from wherry.server.config_table import Meta, Table

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Limits(Table):
    """`[limits]`: what one peer, or all together, can make the server hold."""

    frame_max: Annotated[
        int,
        Meta(
            ge=4096,
            le=16 * MIB,
            description="Bytes of a frame, proposed to clients. Larger frames cost memory for each"
            " connection; 4096 is the protocol's minimum.",
            kind="size",
        ),
    ] = 128 * KIB
    channel_max: Annotated[
        int, Meta(ge=1, le=65_535, description="Channels of a connection, proposed to clients.")
    ] = 2047
    heartbeat_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="Heartbeat proposed to clients: a peer is dead after two missed ones. 0"
            " turns it off for clients that do not ask for it.",
        ),
    ] = 60
    handshake_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="A connection that is not open after this is closed: a peer that says"
            " nothing, or one byte a second, holds nothing for long.",
        ),
    ] = 10
    send_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="A client that takes nothing of what is sent to it for so long is closed,"
            " and what it had not acknowledged goes to others: it may send heartbeats and still not"
            " read. 0 lets it be.",
        ),
    ] = 30
    handshakes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections that are not open yet; more are not accepted meanwhile.",
        ),
    ] = 1000
    verifications_max: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Passwords checked at a time. Each check takes about 50 ms of one core and"
            " 19 MiB, on purpose; others wait for their turn.",
        ),
    ] = 2
    connections_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections in all. Each takes a file descriptor: the server raises its"
            " own soft limit to the hard one (`ulimit -Hn`).",
        ),
    ] = 65_536
    connections_per_user_max: Annotated[
        int | None,
        Meta(
            description="Connections of one user, unless that user has a limit of its own. None: no"
            " limit but the one in all.",
            kind="count",
        ),
    ] = None
    connections_per_virtual_host_max: Annotated[
        int | None,
        Meta(
            description="Connections to one virtual host, unless it has a limit of its own. None:"
            " no limit but the one in all.",
            kind="count",
        ),
    ] = None
    channels_per_connection_max: Annotated[
        int | None,
        Meta(
            description="Channels open at a time on a connection, whatever numbers they have. None:"
            " as many as their numbers allow (`limits.channel_max`).",
            kind="count",
        ),
    ] = None
    consumers_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Consumers of a channel. One costs about a kilobyte; programs have a"
            " handful.",
        ),
    ] = 4096
    unacked_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Deliveries that a channel may owe an acknowledgement, whatever its"
            " prefetch: deliveries stop there until some are settled. A prefetch can ask for"
            " 65,535 at most, so that only clients without one can meet it.",
        ),
    ] = 1 << 20
    unconfirmed_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Publishes of a channel that wait for their confirm; reading from the"
            " connection pauses there until the disk has caught up.",
        ),
    ] = 65_536
    message_bytes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=128 * MIB,
            description="Bytes of a message's body. A larger one closes the channel with 406.",
            kind="size",
        ),
    ] = 128 * MIB
    table_depth_max: Annotated[
        int,
        Meta(
            ge=1,
            le=32,
            description=(
                "Tables and arrays within each other, in headers and arguments, the outermost "
                "counted."
            ),
        ),
    ] = 32
    header_bytes_max: Annotated[
        int,
        Meta(
            ge=256,
            le=128 * KIB,
            description="Bytes of a message's properties, headers included.",
            kind="size",
        ),
    ] = 128 * KIB
    queues_per_virtual_host_max: Annotated[
        int | None,
        Meta(
            description="Queues of one virtual host, unless it has a limit of its own. None: memory"
            " is the limit, a few kilobytes for an idle queue.",
            kind="count",
        ),
    ] = None
    reply_inbox_bytes_max: Annotated[
        int,
        Meta(
            ge=4 * KIB,
            le=1 * GIB,
            description="Bytes of direct replies (`amq.rabbitmq.reply-to`) that wait for one"
            " channel; over it replies are dropped and counted, as direct replies are promised at"
            " most once.",
            kind="size",
        ),
    ] = 16 * MIB
    output_bytes_max: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=1 * GIB,
            description="Bytes of answers that wait for a peer who does not read; reading from it"
            " pauses above.",
            kind="size",
        ),
    ] = 1 * MIB
    input_bytes_max: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=1 * GIB,
            description="Bytes of a connection that wait while it is paused (memory, disk).",
            kind="size",
        ),
    ] = 1 * MIB

    def of_sessions(self) -> dict[str, int]:
        """Those that `wherry._core.FrontEnd` takes, without the ones that are off."""
        here = ("handshakes_max", "verifications_max")
        values = {name: getattr(self, name) for name in self.names()}
        return {n: value for n, value in values.items() if n not in here and value is not None}
