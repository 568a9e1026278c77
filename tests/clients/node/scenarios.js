// Every scenario of ../scenarios.py, over a face that amqplib.js and amqp-client.js give their client.
// Prints one line of JSON for each. Usage: node CLIENT.js HOST PORT PROXY_PORT CONTROL_PORT PREFIX KIND
import assert from "node:assert/strict"
import { createConnection } from "node:net"

const [host, port, proxyPort, controlPort, prefix, kind] = process.argv.slice(2)

const WAIT_MS = 10_000

export class Unsupported extends Error {}

/** Rejects if the promise takes too long. */
export function soon(promise, what = "an answer") {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what}`)), WAIT_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Deliveries in a queue that can be waited on. */
export class Inbox {
  items = []
  waiting = []
  push(item) {
    const waiter = this.waiting.shift()
    if (waiter) waiter(item)
    else this.items.push(item)
  }
  next() {
    if (this.items.length) return Promise.resolve(this.items.shift())
    return soon(new Promise((resolve) => this.waiting.push(resolve)), "delivery")
  }
}

function cut() {
  return new Promise((resolve, reject) => {
    const control = createConnection(Number(controlPort), host, () => control.end())
    control.on("close", resolve).on("error", reject)
  })
}

async function get(channel, queue, noAck = true) {
  const deadline = Date.now() + WAIT_MS
  while (Date.now() < deadline) {
    const message = await channel.get(queue, noAck)
    if (message) return message
  }
  throw new Error(`nothing in ${queue}`)
}

async function arrived(channel, queue, count) {
  const deadline = Date.now() + WAIT_MS
  while (Date.now() < deadline) if ((await channel.count(queue)) === count) return
  throw new Error(`${queue} does not hold ${count}`)
}

const scenarios = {
  async publish_get(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    assert.equal(await channel.get(queue, false), null)
    await channel.publish("", queue, "one")
    const message = await get(channel, queue, false)
    assert.equal(message.text, "one")
    assert.equal(message.redelivered, false)
    await channel.ack(message)
  },
  async confirm(w) {
    const channel = await w.channel({ confirm: true })
    const queue = await w.queue(channel)
    for (let number = 0; number < 50; number++) await channel.publish("", queue, String(number))
    await channel.confirmed()
    await arrived(channel, queue, 50)
  },
  async consume(w) {
    const connection = await w.connect()
    const publisher = await connection.channel()
    const consumer = await connection.channel()
    const queue = await w.queue(publisher)
    const inbox = await consumer.consume(queue, {})
    for (let number = 0; number < 100; number++) await publisher.publish("", queue, String(number))
    let message
    for (let number = 0; number < 100; number++) {
      message = await inbox.next()
      assert.equal(message.text, String(number))
    }
    await consumer.ack(message, true)
    await arrived(publisher, queue, 0)
  },
  async cancel(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    const inbox = await channel.consume(queue, { tag: "c" })
    await channel.publish("", queue, "first")
    const first = await inbox.next()
    await channel.cancel("c")
    await channel.publish("", queue, "second")
    await channel.ack(first)
    assert.equal((await get(channel, queue)).text, "second")
  },
  async prefetch(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    for (let number = 0; number < 20; number++) await channel.publish("", queue, String(number))
    await arrived(channel, queue, 20)
    await channel.prefetch(5)
    const inbox = await channel.consume(queue, {})
    let message
    for (let number = 0; number < 5; number++) message = await inbox.next()
    await arrived(channel, queue, 15)
    await channel.ack(message, true)
    for (let number = 5; number < 10; number++)
      assert.equal((await inbox.next()).text, String(number))
    await arrived(channel, queue, 10)
  },
  async nack_requeue(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    for (const body of ["a", "b", "c"]) await channel.publish("", queue, body)
    await arrived(channel, queue, 3)
    const taken = []
    for (let number = 0; number < 3; number++) taken.push(await get(channel, queue, false))
    await channel.nack(taken[1], true, true)
    for (const body of ["a", "b"]) {
      const message = await get(channel, queue, false)
      assert.equal(message.text, body)
      assert.equal(message.redelivered, true)
    }
  },
  async reject_dead_letter(w) {
    const channel = await w.channel()
    const dead = await w.queue(channel, ".dead")
    const queue = await w.queue(channel, "", {
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": dead,
    })
    await channel.publish("", queue, "m", { headers: { keep: "me" } })
    await channel.reject(await get(channel, queue, false), false)
    const message = await get(channel, dead)
    assert.equal(message.headers.keep, "me")
    const [death] = message.headers["x-death"]
    assert.equal(death.queue, queue)
    assert.equal(death.reason, "rejected")
    assert.equal(Number(death.count), 1)
  },
  async mandatory_return(w) {
    const channel = await w.channel()
    const returned = channel.returned()
    await channel.publish("", `${prefix}nobody`, "back", {}, true)
    assert.equal(await soon(returned, "return"), "back")
  },
  async transactions(w) {
    const connection = await w.connect()
    const channel = await connection.channel()
    const other = await connection.channel()
    const queue = await w.queue(channel)
    await channel.tx("select")
    await channel.publish("", queue, "rolled back")
    await channel.tx("rollback")
    await channel.publish("", queue, "committed")
    assert.equal(await other.get(queue, true), null)
    await channel.tx("commit")
    assert.equal((await get(other, queue)).text, "committed")
  },
  async reconnect(w) {
    const setup = await w.channel()
    const queue = await w.queue(setup)
    await setup.publish("", queue, "1")
    await setup.publish("", queue, "2")
    await arrived(setup, queue, 2)
    let connection = await w.connect({ port: proxyPort })
    let channel = await connection.channel()
    await channel.prefetch(1)
    let inbox = await channel.consume(queue, {})
    assert.equal((await inbox.next()).text, "1")
    const closed = connection.closed()
    await cut()
    await soon(closed, "close")
    connection = await w.connect({ port: proxyPort })
    channel = await connection.channel()
    inbox = await channel.consume(queue, {})
    const again = await inbox.next()
    assert.equal(again.text, "1")
    assert.equal(again.redelivered, true)
    assert.equal((await inbox.next()).text, "2")
  },
  async large_message(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    const body = Buffer.alloc(8 << 20, "wherry.")
    await channel.publish("", queue, body)
    assert.ok(body.equals((await get(channel, queue)).body))
  },
  async many_channels(w) {
    const connection = await w.connect()
    const channels = []
    for (let number = 0; number < 200; number++) channels.push(await connection.channel())
    const queue = await w.queue(channels[0])
    for (const [number, channel] of channels.entries())
      await channel.publish("", queue, String(number))
    await arrived(channels[0], queue, 200)
    const seen = new Set()
    for (const channel of channels) seen.add((await get(channel, queue)).text)
    assert.equal(seen.size, 200)
  },
  async properties(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    const headers = {
      text: "grüße",
      empty: "",
      true: true,
      false: false,
      small: 7,
      negative: -70000,
      large: 2 ** 40,
      float: 0.5,
      none: null,
      list: [1, "two", [true]],
      table: { inner: { deep: "yes" } },
    }
    const properties = {
      contentType: "text/plain",
      contentEncoding: "utf-8",
      deliveryMode: 2,
      priority: 7,
      correlationId: "correlation",
      replyTo: "reply",
      expiration: "60000",
      messageId: "id",
      type: "kind",
      userId: "guest",
      appId: "application",
    }
    await channel.publish("", queue, "body", { ...properties, headers })
    const message = await get(channel, queue)
    assert.deepEqual({ ...message.headers }, headers)
    for (const [name, value] of Object.entries(properties))
      assert.equal(message.properties[name], value, name)
  },
  async exclusive_queue(w) {
    const owner = await w.channel()
    const stranger = await w.channel()
    const queue = await owner.declare("", { exclusive: true })
    assert.match(queue, /^amq\.gen-/)
    assert.match(await refusal(stranger.count(queue)), /405|RESOURCE.LOCKED/)
  },
  async errors(w) {
    const connection = await w.connect()
    const queue = await w.queue(await connection.channel(), "", { "x-max-priority": 10 })
    const absent = `${prefix}absent`
    for (const [text, operation] of [
      [/404/, (channel) => channel.count(absent)],
      [/406/, (channel) => channel.declare(queue, {})],
      [/403/, (channel) => channel.exchange("amq.mine", "direct")],
      [/404/, (channel) => channel.get(absent, true)],
    ])
      assert.match(await refusal(operation(await connection.channel())), text)
    await connection.channel()
  },
  async consumer_cancel(w) {
    const connection = await w.connect()
    const channel = await connection.channel()
    const queue = await w.queue(channel)
    const inbox = await channel.consume(queue, {})
    const other = await connection.channel()
    await other.delete(queue)
    assert.equal(await inbox.next(), null)
  },
  async heartbeats(w) {
    const connection = await w.connect({ heartbeat: 1 })
    const closed = connection.closed().then(() => "closed")
    const idle = new Promise((resolve) => setTimeout(() => resolve("open"), 3500))
    assert.equal(await Promise.race([closed, idle]), "open")
    await connection.channel()
  },
  async direct_reply_to(w) {
    const connection = await w.connect()
    const asking = await connection.channel()
    const answering = await connection.channel()
    const queue = await w.queue(answering)
    const replies = await asking.consume("amq.rabbitmq.reply-to", { noAck: true })
    await asking.publish("", queue, "abc", { replyTo: "amq.rabbitmq.reply-to" })
    const request = await get(answering, queue)
    await answering.publish("", request.properties.replyTo, "cba")
    assert.equal((await replies.next()).text, "cba")
  },
  async priority(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel, "", { "x-max-priority": 5 })
    for (const level of [1, 5, 0, 3, 5])
      await channel.publish("", queue, String(level), { priority: level })
    await arrived(channel, queue, 5)
    let order = ""
    for (let number = 0; number < 5; number++) order += (await get(channel, queue)).text
    assert.equal(order, "55310")
  },
  async ttl(w) {
    const channel = await w.channel()
    const dead = await w.queue(channel, ".dead")
    const queue = await w.queue(channel, "", {
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": dead,
    })
    await channel.publish("", queue, "short", { expiration: "50" })
    const message = await get(channel, dead)
    const [death] = message.headers["x-death"]
    assert.equal(death.reason, "expired")
    assert.equal(death["original-expiration"], "50")
    assert.equal(message.properties.expiration, undefined)
  },
  async delay(w) {
    if (kind === "rabbitmq") throw new Unsupported("this RabbitMQ has no delayed-message plugin")
    const channel = await w.channel()
    const exchange = prefix + w.name
    await channel.exchange(exchange, "x-delayed-message", { "x-delayed-type": "direct" })
    const queue = await w.queue(channel)
    await channel.bind(queue, exchange, "k")
    const started = Date.now()
    await channel.publish(exchange, "k", "late", { headers: { "x-delay": 300 } })
    await channel.publish(exchange, "k", "now")
    assert.equal((await get(channel, queue)).text, "now")
    assert.equal((await get(channel, queue)).text, "late")
    assert.ok(Date.now() - started >= 299)
  },
  async recover(w) {
    const channel = await w.channel()
    const queue = await w.queue(channel)
    await channel.publish("", queue, "again")
    const inbox = await channel.consume(queue, {})
    assert.equal((await inbox.next()).redelivered, false)
    await channel.recover()
    assert.equal((await inbox.next()).redelivered, true)
  },
  async exchanges(w) {
    const channel = await w.channel()
    const base = prefix + w.name
    const match = { "x-match": "all", n: 1, s: "x" }
    const queues = []
    for (const [kind, pattern, given] of [
      ["direct", "k", {}],
      ["topic", "a.*.#", {}],
      ["fanout", "", {}],
      ["headers", "", match],
    ]) {
      await channel.exchange(base + kind, kind)
      const queue = await w.queue(channel, `.${kind}`)
      await channel.bind(queue, base + kind, pattern, given)
      queues.push(queue)
    }
    await channel.publish(`${base}direct`, "k", "m")
    await channel.publish(`${base}direct`, "other", "m")
    await channel.publish(`${base}topic`, "a.b.c.d", "m")
    await channel.publish(`${base}topic`, "b.a", "m")
    await channel.publish(`${base}fanout`, "whatever", "m")
    await channel.publish(`${base}headers`, "", "m", { headers: { n: 1, s: "x" } })
    await channel.publish(`${base}headers`, "", "m", { headers: { n: 1 } })
    for (const queue of queues) await arrived(channel, queue, 1)
  },
}

async function refusal(promise) {
  try {
    await soon(promise)
  } catch (error) {
    return String(error)
  }
  return "no error"
}

class World {
  connections = []
  constructor(name, connect) {
    this.name = name
    this.open = connect
  }
  async connect(options = {}) {
    const connection = await this.open(host, Number(options.port ?? port), options.heartbeat ?? 30)
    this.connections.push(connection)
    return connection
  }
  async channel(options) {
    return (await this.connect()).channel(options)
  }
  queue(channel, suffix = "", given = {}) {
    return channel.declare(prefix + this.name + suffix, { arguments: given })
  }
}

/** Run all with a client: `connect(host, port, heartbeat)` answers with a connection. */
export async function main(connect) {
  for (const [name, scenario] of Object.entries(scenarios)) {
    const world = new World(name, connect)
    const result = { scenario: name, ok: true }
    try {
      await scenario(world)
    } catch (error) {
      if (error instanceof Unsupported) result.skip = error.message
      else Object.assign(result, { ok: false, error: String(error.stack ?? error) })
    }
    for (const connection of world.connections) await soon(connection.close()).catch(() => {})
    console.log(JSON.stringify(result))
  }
  process.exit(0)
}
