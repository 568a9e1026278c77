// CloudAMQP's amqp-client.js, its low-level API. See scenarios.js.
import { AMQPClient } from "@cloudamqp/amqp-client"
import { Inbox, main } from "./scenarios.js"

function received(message) {
  if (!message) return null
  const body = Buffer.from(message.body ?? [])
  return {
    native: message,
    body,
    text: body.length < 1000 ? body.toString() : "",
    redelivered: message.redelivered,
    headers: message.properties.headers ?? {},
    properties: message.properties,
  }
}

class Channel {
  constructor(channel) {
    this.channel = channel
  }
  async declare(name, { exclusive = false, arguments: given } = {}) {
    const options = { durable: false, autoDelete: false, exclusive }
    return (await this.channel.queueDeclare(name, options, given)).name
  }
  async count(queue) {
    return (await this.channel.queueDeclare(queue, { passive: true })).messageCount
  }
  delete(queue) {
    return this.channel.queueDelete(queue)
  }
  exchange(name, kind, given) {
    return this.channel.exchangeDeclare(name, kind, { durable: false }, given)
  }
  bind(queue, exchange, key, given) {
    return this.channel.queueBind(queue, exchange, key, given)
  }
  publish(exchange, key, body, properties = {}, mandatory = false) {
    return this.channel.basicPublish(exchange, key, body, properties, mandatory)
  }
  async confirmed() {} // each publish waits for its own
  async get(queue, noAck) {
    return received(await this.channel.basicGet(queue, { noAck }))
  }
  async consume(queue, { tag, noAck = false }) {
    const inbox = new Inbox()
    const options = { noAck, ...(tag && { tag }) }
    const consumer = await this.channel.basicConsume(queue, options, (message) =>
      inbox.push(received(message)),
    )
    // The server's cancel ends the consumer with an error.
    consumer.wait().catch(() => inbox.push(null))
    return inbox
  }
  cancel(tag) {
    return this.channel.basicCancel(tag)
  }
  ack(message, multiple = false) {
    return message.native.ack(multiple)
  }
  nack(message, multiple, requeue) {
    return message.native.nack(requeue, multiple)
  }
  reject(message, requeue) {
    return message.native.reject(requeue)
  }
  prefetch(count) {
    return this.channel.basicQos(count)
  }
  recover() {
    return this.channel.basicRecover(true)
  }
  returned() {
    return new Promise((resolve) => {
      this.channel.onReturn = (message) => resolve(Buffer.from(message.body).toString())
    })
  }
  tx(word) {
    const name = { select: "txSelect", commit: "txCommit", rollback: "txRollback" }[word]
    return this.channel[name]()
  }
}

class Connection {
  constructor(client) {
    this.client = client
    this.gone = new Promise((resolve) => {
      client.onerror = resolve
      client.socket?.on("close", resolve)
    })
  }
  async channel({ confirm = false } = {}) {
    const channel = await this.client.channel()
    if (confirm) await channel.confirmSelect()
    return new Channel(channel)
  }
  closed() {
    return this.gone
  }
  close() {
    return this.client.close()
  }
}

await main(async (host, port, heartbeat) => {
  const client = new AMQPClient(`amqp://guest:guest@${host}:${port}/?heartbeat=${heartbeat}`)
  client.logger = null
  await client.connect()
  return new Connection(client)
})
