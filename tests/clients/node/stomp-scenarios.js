// The scenarios of ../stomp_scenarios.py through @stomp/stompjs, in Node and in a browser: nothing
// here belongs to one of them. `run(environment)` reports a line for each scenario.

const WAIT_MS = 10_000

export class Unsupported extends Error {}

function assert(condition, what) {
  if (!condition) throw new Error(what ?? "assertion failed")
}

function same(got, wanted, what = "") {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)]
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`)
}

/** The promise's value, or an error when it takes too long. */
function soon(promise, what = "answer") {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what}`)), WAIT_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Things that come, which can be waited for. */
class Inbox {
  items = []
  waiting = []
  push = (item) => {
    const waiter = this.waiting.shift()
    if (waiter) waiter(item)
    else this.items.push(item)
  }
  next(what = "message") {
    if (this.items.length) return Promise.resolve(this.items.shift())
    return soon(new Promise((resolve) => this.waiting.push(resolve)), what)
  }
}

class Connection {
  messages = new Inbox()
  errors = new Inbox()
  closes = new Inbox()
  opened = new Inbox()
  receipts = 0

  constructor(world, options) {
    const { Client, Versions } = world.environment.stompjs
    this.client = new Client({
      ...world.environment.transport,
      stompVersions: new Versions([world.environment.version]),
      connectHeaders: { login: "guest", passcode: "guest", host: "/", ...options.headers },
      heartbeatIncoming: options.beatsMs ?? 0,
      heartbeatOutgoing: options.beatsMs ?? 0,
      heartbeatToleranceMultiplier: 4, // a busy machine is no dead server
      reconnectDelay: options.reconnectDelay ?? 0,
      onConnect: this.opened.push,
      onStompError: this.errors.push,
      onWebSocketClose: this.closes.push,
    })
    this.client.activate()
  }
  /** Sends with a receipt, and waits for it. `act` is given the headers. */
  async receipt(act) {
    const id = `r-${++this.receipts}`
    const got = new Promise((resolve) => this.client.watchForReceipt(id, resolve))
    act({ receipt: id })
    await soon(got, "receipt")
  }
  send(destination, body, headers = {}) {
    const content = typeof body === "string" ? { body } : { binaryBody: body }
    return this.receipt((receipt) =>
      this.client.publish({ destination, ...content, headers: { ...headers, ...receipt } }),
    )
  }
  publish(destination, body, headers = {}) {
    this.client.publish({ destination, body, headers })
  }
  subscribe(destination, headers = {}) {
    return this.receipt((receipt) => {
      this.client.subscribe(destination, this.messages.push, {
        id: "1",
        ...headers,
        ...receipt,
      })
    })
  }
  next() {
    return this.messages.next()
  }
  async bodies(count) {
    const bodies = []
    for (let number = 0; number < count; number++) bodies.push((await this.next()).body)
    return bodies
  }
  /** DISCONNECT with a receipt, which stompjs waits for. */
  disconnect() {
    return soon(this.client.deactivate(), "receipt of DISCONNECT")
  }
}

class World {
  connections = []
  constructor(environment, name) {
    this.environment = environment
    this.prefix = `${environment.prefix}${name}`
  }
  begin(options = {}) {
    const connection = new Connection(this, options)
    this.connections.push(connection)
    return connection
  }
  async connect(options = {}) {
    const connection = this.begin(options)
    connection.connected = await connection.opened.next("CONNECTED")
    return connection
  }
  name(suffix = "q") {
    return `${this.prefix}.${suffix}`
  }
  queue(suffix = "q") {
    return `/queue/${this.name(suffix)}`
  }
  amqp() {
    if (!this.environment.amqp) throw new Unsupported("a browser has no client of AMQP")
    return this.environment.amqp()
  }
  /** Until so many messages are ready, as a subscription of another connection sees them. */
  async drained(wanted) {
    const reader = await this.connect()
    await reader.subscribe(this.queue())
    await reader.send(this.queue(), "last")
    const bodies = []
    for (;;) {
      const { body } = await reader.next()
      if (body === "last") break
      bodies.push(body)
    }
    same(bodies, wanted)
  }
}

const scenarios = {
  async versions(w) {
    const connection = await w.connect()
    same(connection.connected.headers.version, w.environment.version)
    assert(connection.connected.headers.session)
  },
  async login_refused(w) {
    for (const headers of [{ passcode: "wrong" }, { login: "nobody" }]) {
      const error = await w.begin({ headers }).errors.next("error")
      same(error.headers.message, "Bad CONNECT")
    }
  },
  async send_receipt(w) {
    const connection = await w.connect()
    for (let number = 0; number < 20; number++)
      await connection.send(w.queue(), String(number), { persistent: "true" })
    await connection.subscribe(w.queue())
    same(
      await connection.bodies(20),
      Array.from({ length: 20 }, (_, number) => String(number)),
    )
  },
  async ack_auto(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue())
    await connection.send(w.queue(), "gone")
    const message = await connection.next()
    same([message.body, message.headers.ack], ["gone", undefined])
    await connection.disconnect()
    await w.drained([])
  },
  async ack_client(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue(), { ack: "client" })
    const messages = []
    for (let number = 0; number < 5; number++) await connection.send(w.queue(), String(number))
    for (let number = 0; number < 5; number++) messages.push(await connection.next())
    await connection.receipt((receipt) => messages[2].ack(receipt))
    await connection.disconnect()
    await w.drained(["3", "4"])
  },
  async ack_individual(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue(), { ack: "client-individual" })
    const messages = []
    for (let number = 0; number < 3; number++) await connection.send(w.queue(), String(number))
    for (let number = 0; number < 3; number++) messages.push(await connection.next())
    await connection.receipt((receipt) => messages[1].ack(receipt))
    await connection.disconnect()
    await w.drained(["0", "2"])
  },
  async nack_requeue(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue(), { ack: "client-individual" })
    await connection.send(w.queue(), "again")
    ;(await connection.next()).nack()
    const message = await connection.next()
    same([message.body, message.headers.redelivered], ["again", "true"])
    await connection.receipt((receipt) => message.ack(receipt))
    await connection.disconnect()
    await w.drained([])
  },
  async nack_dead_letter(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue("dead"), { id: "dead" })
    await connection.subscribe(w.queue(), {
      ack: "client-individual",
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": w.name("dead"),
    })
    await connection.send(w.queue(), "m")
    const message = await connection.next()
    message.nack({ requeue: "false" })
    const dead = await connection.next()
    same([dead.body, dead.headers.subscription], ["m", "dead"])
    assert(dead.headers["x-death"].includes(w.name()))
  },
  async transaction_commit(w) {
    const connection = await w.connect()
    const other = await w.connect()
    await other.subscribe(w.queue())
    const transaction = connection.client.begin()
    for (const body of ["0", "1", "2"])
      connection.publish(w.queue(), body, { transaction: transaction.id })
    await connection.send(w.queue(), "before")
    same((await other.next()).body, "before")
    transaction.commit()
    same(await other.bodies(3), ["0", "1", "2"])
  },
  async transaction_abort(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue(), { ack: "client-individual" })
    const transaction = connection.client.begin()
    connection.publish(w.queue(), "never", { transaction: transaction.id })
    transaction.abort()
    await connection.send(w.queue(), "only")
    const message = await connection.next()
    same(message.body, "only")
    const second = connection.client.begin()
    message.ack({ transaction: second.id })
    second.abort()
    await connection.disconnect()
    await w.drained(["only"])
  },
  async prefetch_count(w) {
    const connection = await w.connect()
    for (let number = 0; number < 5; number++) await connection.send(w.queue(), String(number))
    await connection.subscribe(w.queue(), { ack: "client-individual", "prefetch-count": "3" })
    const held = []
    for (let number = 0; number < 3; number++) held.push(await connection.next())
    await connection.send(w.queue("elsewhere"), "a round trip")
    same(connection.messages.items.length, 0)
    held[1].ack()
    same((await connection.next()).body, "3")
  },
  async durable_topic(w) {
    const topic = `/topic/${w.name("t")}`
    const durable = { id: "mine", durable: "true", "auto-delete": "false" }
    const connection = await w.connect()
    await connection.subscribe(topic, durable)
    await connection.disconnect()
    const publisher = await w.connect()
    await publisher.send(topic, "while you were away")
    const again = await w.connect()
    await again.subscribe(topic, durable)
    const message = await again.next()
    same([message.body, message.headers.destination], ["while you were away", topic])
    await again.receipt((receipt) =>
      again.client.unsubscribe("mine", { durable: "true", ...receipt }),
    )
  },
  async temp_queue(w) {
    const asking = await w.connect()
    const answering = await w.connect()
    await answering.subscribe(w.queue())
    asking.client.onUnhandledMessage = asking.messages.push
    for (let number = 0; number < 3; number++) {
      asking.publish(w.queue(), String(number), { "reply-to": "/temp-queue/answers" })
      const question = await answering.next()
      await answering.send(question.headers["reply-to"], question.body.repeat(2))
      const answer = await asking.next()
      same(
        [answer.body, answer.headers.subscription],
        [`${number}${number}`, "/temp-queue/answers"],
      )
    }
  },
  async exchange_destination(w) {
    const connection = await w.connect()
    const destination = `/exchange/amq.direct/${w.name("k")}`
    await connection.subscribe(destination)
    await connection.send(`${destination}-other`, "no")
    await connection.send(destination, "yes")
    const message = await connection.next()
    same([message.body, message.headers.destination], ["yes", destination])
  },
  async amq_queue(w) {
    const connection = await w.connect()
    await connection.send(w.queue(), "m", { "x-max-length": "5" })
    await connection.subscribe(`/amq/queue/${w.name()}`)
    same((await connection.next()).headers.destination, w.queue())
    connection.client.subscribe(`/amq/queue/${w.name("none")}`, () => {}, { id: "2" })
    same((await connection.errors.next("error")).headers.message, "not_found")
  },
  async headers_escaped(w) {
    if (w.environment.version !== "1.2") throw new Unsupported("stompjs escapes from 1.2 on")
    // It escapes values, and no names; and it reads an escaped backslash before an n wrongly.
    const given = { colon: "c:d", backslash: "a\\b\\", line: "one\ntwo", return: "a\rb", ü: "€" }
    const connection = await w.connect()
    await connection.subscribe(w.queue())
    await connection.send(w.queue(), "m", given)
    const { headers } = await connection.next()
    for (const [name, value] of Object.entries(given)) same(headers[name], value, name)
  },
  async unicode(w) {
    const connection = await w.connect()
    const name = `/queue/${w.name("grüße €")}`
    await connection.subscribe(name)
    await connection.send(name, "naïve 𝄞 😀")
    const message = await connection.next()
    same(message.body, "naïve 𝄞 😀")
    await connection.send(message.headers.destination, "again")
    same((await connection.next()).body, "again")
  },
  async binary_body(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue())
    const every = Uint8Array.from({ length: 1027 }, (_, at) => at % 256)
    await connection.send(w.queue(), every, { "content-type": "application/octet-stream" })
    const message = await connection.next()
    same([...message.binaryBody], [...every])
    same(message.headers["content-length"], "1027")
  },
  async large_message(w) {
    const connection = await w.connect()
    await connection.subscribe(w.queue())
    const body = new Uint8Array(w.environment.kind === "rabbitmq" ? 3 << 20 : 5 << 20)
    for (let at = 0; at < body.length; at += 7) body[at] = at % 251
    await connection.send(w.queue(), body)
    const got = (await connection.next()).binaryBody
    assert(got.length === body.length && got.every((byte, at) => byte === body[at]))
  },
  async heartbeats(w) {
    if (w.environment.version === "1.0") throw new Unsupported("1.0 has no heart-beats")
    const connection = await w.connect({ beatsMs: 2000 })
    same(connection.connected.headers["heart-beat"], "2000,2000")
    await new Promise((resolve) => setTimeout(resolve, 5200))
    assert(connection.client.connected, "the connection ended")
    same(connection.closes.items.length, 0)
    await connection.send(w.queue(), "alive")
  },
  async many_subscriptions(w) {
    const connection = await w.connect()
    for (let number = 0; number < 200; number++) {
      const topic = `/topic/${w.name(number)}`
      connection.client.subscribe(topic, connection.messages.push, { id: String(number) })
    }
    for (let number = 0; number < 200; number++)
      connection.publish(`/topic/${w.name(number)}`, String(number))
    const seen = new Set()
    for (let number = 0; number < 200; number++) {
      const message = await connection.next()
      same(message.body, message.headers.subscription)
      seen.add(message.body)
    }
    same(seen.size, 200)
  },
  async disconnect_receipt(w) {
    const connection = await w.connect()
    const sent = Array.from({ length: 100 }, (_, number) => String(number))
    for (const body of sent) connection.publish(w.queue(), body, { persistent: "true" })
    await connection.disconnect()
    await w.drained(sent)
  },
  async errors(w) {
    for (const [message, cause] of [
      ["Unknown destination", (c) => c.publish("/nonsense/x", "m")],
      ["Bad transaction", (c) => c.client.commit("none")],
      ["access_refused", (c) => c.publish("/queue/amq.mine", "m")],
      ["not_found", (c) => c.client.subscribe("/exchange/none/k", () => {}, { id: "1" })],
    ]) {
      const connection = await w.connect()
      cause(connection)
      const error = await connection.errors.next("error")
      same(error.headers.message, message)
      assert(error.body)
      if (w.environment.kind !== "rabbitmq") await connection.closes.next("close")
    }
  },
  async from_amqp(w) {
    const { channel, close } = await w.amqp()
    const connection = await w.connect()
    await connection.subscribe(w.queue())
    channel.sendToQueue(w.name(), Buffer.from("body"), {
      contentType: "text/x",
      persistent: true,
      priority: 3,
      correlationId: "cor",
      expiration: "60000",
      messageId: "mid",
      timestamp: 1700000000,
      type: "kind",
      userId: "guest",
      appId: "app",
      headers: { text: "grüße", number: 5, yes: true },
    })
    const message = await connection.next()
    same(message.body, "body")
    for (const [name, value] of Object.entries({
      "content-type": "text/x",
      persistent: "true",
      priority: "3",
      "correlation-id": "cor",
      expiration: "60000",
      "amqp-message-id": "mid",
      timestamp: "1700000000",
      type: "kind",
      "user-id": "guest",
      "app-id": "app",
      text: "grüße",
      number: "5",
      yes: "true",
    }))
      same(message.headers[name], value, name)
    await close()
  },
  async to_amqp(w) {
    const { channel, close } = await w.amqp()
    const connection = await w.connect()
    await connection.send(w.queue(), "a\0b", {
      "content-type": "text/x",
      persistent: "true",
      priority: "3",
      "correlation-id": "cor",
      "amqp-message-id": "mid",
      "reply-to": "/queue/answers",
      own: "grüße",
    })
    const message = await channel.get(w.name(), { noAck: true })
    same(message.content.toString(), "a\0b")
    const { properties } = message
    same(properties.headers.own, "grüße")
    same(
      [properties.contentType, properties.deliveryMode, properties.priority],
      ["text/x", 2, 3],
    )
    same(
      [properties.correlationId, properties.messageId, properties.replyTo],
      ["cor", "mid", "/queue/answers"],
    )
    await close()
  },
  /** The client connects again by itself; what had a receipt is there after the server was killed. */
  async reconnect(w) {
    const connection = await w.connect({ reconnectDelay: 200 })
    for (let number = 0; number < 10; number++)
      await connection.send(w.queue(), String(number), { persistent: "true" })
    await w.environment.restart()
    await connection.opened.next("second CONNECTED")
    await connection.subscribe(w.queue())
    same(
      (await connection.bodies(10)).sort(),
      Array.from({ length: 10 }, (_, number) => String(number)),
    )
  },
}

/**
 * Run all. `environment`: `stompjs`, `transport` (options of its Client), `version`, `prefix`, `kind`
 * of broker, `restart()`, `amqp()` if there is such a client, `report(line)`.
 */
export async function run(environment) {
  const one = async ([name, scenario]) => {
    const world = new World(environment, name)
    const result = { scenario: name, ok: true }
    try {
      await scenario(world)
    } catch (error) {
      if (error instanceof Unsupported) result.skip = error.message
      else Object.assign(result, { ok: false, error: String(error.stack ?? error) })
    }
    for (const connection of world.connections) connection.client.deactivate({ force: true })
    await environment.report(result)
  }
  const all = Object.entries(scenarios)
  // At once, but for the one that has the server killed.
  await Promise.all(all.slice(0, -1).map(one))
  await one(all.at(-1))
}
