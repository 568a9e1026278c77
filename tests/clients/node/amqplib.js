// amqplib's promises. See scenarios.js.
import amqplib from "amqplib"
import { Inbox, Unsupported, main } from "./scenarios.js"

function received(message) {
  return (
    message && {
      native: message,
      body: message.content,
      text: message.content.length < 1000 ? message.content.toString() : "",
      redelivered: message.fields.redelivered,
      headers: message.properties.headers ?? {},
      properties: message.properties,
    }
  )
}

class Channel {
  constructor(channel) {
    this.channel = channel
    // An error event that nobody listens to would end the program.
    channel.on("error", () => {})
  }
  async declare(name, { exclusive = false, arguments: given } = {}) {
    const options = { durable: false, exclusive, arguments: given }
    return (await this.channel.assertQueue(name, options)).queue
  }
  async count(queue) {
    return (await this.channel.checkQueue(queue)).messageCount
  }
  delete(queue) {
    return this.channel.deleteQueue(queue)
  }
  exchange(name, kind, given) {
    return this.channel.assertExchange(name, kind, { durable: false, arguments: given })
  }
  bind(queue, exchange, key, given) {
    return this.channel.bindQueue(queue, exchange, key, given)
  }
  publish(exchange, key, body, properties = {}, mandatory = false) {
    this.channel.publish(exchange, key, Buffer.from(body), { ...properties, mandatory })
  }
  confirmed() {
    return this.channel.waitForConfirms()
  }
  async get(queue, noAck) {
    return received((await this.channel.get(queue, { noAck })) || null)
  }
  async consume(queue, { tag, noAck = false }) {
    const inbox = new Inbox()
    const options = { noAck, consumerTag: tag }
    await this.channel.consume(queue, (message) => inbox.push(received(message)), options)
    return inbox
  }
  cancel(tag) {
    return this.channel.cancel(tag)
  }
  ack(message, multiple = false) {
    this.channel.ack(message.native, multiple)
  }
  nack(message, multiple, requeue) {
    this.channel.nack(message.native, multiple, requeue)
  }
  reject(message, requeue) {
    this.channel.reject(message.native, requeue)
  }
  prefetch(count) {
    return this.channel.prefetch(count)
  }
  recover() {
    return this.channel.recover()
  }
  returned() {
    return new Promise((resolve) =>
      this.channel.on("return", (message) => resolve(message.content.toString())),
    )
  }
  tx() {
    throw new Unsupported("amqplib has no transactions")
  }
}

class Connection {
  constructor(connection) {
    this.connection = connection
    connection.on("error", () => {})
  }
  async channel({ confirm = false } = {}) {
    const open = confirm ? "createConfirmChannel" : "createChannel"
    return new Channel(await this.connection[open]())
  }
  closed() {
    return new Promise((resolve) => this.connection.on("close", resolve))
  }
  close() {
    return this.connection.close()
  }
}

await main(async (hostname, port, heartbeat) => {
  const address = { hostname, port, heartbeat, username: "guest", password: "guest", vhost: "/" }
  return new Connection(await amqplib.connect(address))
})
