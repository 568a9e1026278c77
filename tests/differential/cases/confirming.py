"""Transactions and confirms."""

from __future__ import annotations

from differential.cases.language import case, declare, do, open_, publish

case("tx after confirm", do("confirm.select"), do("tx.select"))
case("confirm after tx", do("tx.select"), do("confirm.select"))
case("commit without select", do("tx.commit"))
case("rollback without select", do("tx.rollback"))
case("tx select twice", do("tx.select"), do("tx.select"), do("tx.commit"))
case("confirm select twice", do("confirm.select"), do("confirm.select"), publish("", "@nobody"))
case("confirm select no wait", do("confirm.select", no_wait=True), publish("", "@nobody"))
case(
    "tx returns before commit ok",
    do("tx.select"),
    publish("", "@nobody", mandatory=True),
    do("tx.commit"),
)
case("tx exchange absent", do("tx.select"), publish("@absent", "k"))
case("tx ack unknown", do("tx.select"), do("basic.ack", delivery_tag=7))
case(
    "tx rollback keeps unacked",
    declare(),
    open_("a", 2),
    do("confirm.select", channel=2),
    publish("", "@q", channel=2),
    do("tx.select"),
    do("basic.get", queue="@q"),
    do("basic.ack", delivery_tag=1),
    do("tx.rollback"),
    do("basic.ack", delivery_tag=1),
    do("tx.commit"),
    do("queue.purge", queue="@q"),
)
case(
    "tx nack is held",
    declare(),
    open_("a", 2),
    do("confirm.select", channel=2),
    publish("", "@q", channel=2),
    do("tx.select"),
    do("basic.get", queue="@q"),
    do("basic.nack", delivery_tag=1, requeue=True),
    do("basic.get", channel=2, queue="@q"),
    do("tx.commit"),
    do("basic.get", channel=2, queue="@q"),
)
