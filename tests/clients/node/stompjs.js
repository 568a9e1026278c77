// @stomp/stompjs in Node: `node stompjs.js VERSION tcp|ws HOST PORT AMQP_PORT CONTROL PREFIX KIND`.
// See stomp-scenarios.js; CONTROL is the address to which a request to restart the server goes.
import { createConnection } from "node:net"
import * as stompjs from "@stomp/stompjs"
import amqplib from "amqplib"
import { WebSocket } from "ws"
import { run } from "./stomp-scenarios.js"

const [version, way, host, port, amqpPort, control, prefix, kind] = process.argv.slice(2)

/** A TCP connection with the face of a WebSocket, as stompjs wants it. */
class Socket {
  binaryType = "arraybuffer"
  readyState = 0
  constructor() {
    this.url = `tcp://${host}:${port}/`
    this.socket = createConnection({ host, port: Number(port), noDelay: true })
    this.socket.on("connect", () => {
      this.readyState = 1
      this.onopen?.()
    })
    this.socket.on("data", (data) => {
      const { buffer, byteOffset, length } = data
      this.onmessage?.({ data: buffer.slice(byteOffset, byteOffset + length) })
    })
    this.socket.on("error", (error) => this.onerror?.(error))
    this.socket.on("close", (failed) => {
      this.readyState = 3
      this.onclose?.({ code: failed ? 1006 : 1000, reason: "", wasClean: !failed })
    })
  }
  send(data) {
    this.socket.write(typeof data === "string" ? data : new Uint8Array(data))
  }
  close() {
    this.readyState = 2
    this.socket.end()
  }
  terminate() {
    this.socket.destroy()
  }
}

const transport =
  way === "tcp"
    ? { webSocketFactory: () => new Socket() }
    : {
        webSocketFactory: () =>
          new WebSocket(`ws://${host}:${port}/ws`, [`v${version.replace(".", "")}.stomp`]),
      }

await run({
  stompjs,
  transport,
  version,
  prefix,
  kind,
  report: (line) => console.log(JSON.stringify(line)),
  async restart() {
    await fetch(control, { method: "POST" })
  },
  async amqp() {
    const connection = await amqplib.connect(`amqp://guest:guest@${host}:${amqpPort}`)
    return { channel: await connection.createChannel(), close: () => connection.close() }
  },
})
process.exit(0)
