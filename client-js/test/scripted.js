/** A server whose words the test writes, in place of the network. */

import { Server } from "../src/server.js";

/** A WebSocket that the test holds the other end of. */
class Socket {
  bufferedAmount = 0;
  /** What was sent: text that is JSON, parsed, or bytes. */
  sent = [];
  closed = null;

  constructor(url, protocols) {
    this.url = String(url);
    this.protocols = protocols;
  }

  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : new Uint8Array(data));
  }

  close(code) {
    this.closed = code;
  }

  /** The server says something. */
  say(...messages) {
    for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) });
  }

  /** The connection ends. */
  end(code = 1006, reason = "") {
    this.onclose?.({ code, reason });
  }

  /** Bytes of audio that were sent. */
  get audio() {
    return Buffer.concat(this.sent.filter((data) => data instanceof Uint8Array));
  }

  /** Types of the messages that were sent. */
  get said() {
    return this.sent.filter((data) => !(data instanceof Uint8Array)).map(({ type }) => type);
  }
}

/** Sockets in the order in which they were opened. */
export class Network {
  sockets = [];
  #waiting = [];
  WebSocket;

  constructor() {
    const network = this;
    this.WebSocket = class extends Socket {
      constructor(...given) {
        super(...given);
        network.sockets.push(this);
        for (const resolve of network.#waiting.splice(0)) resolve();
      }
    };
  }

  /** A server whose condition is known. */
  server(condition = "ready", options = {}) {
    const server = new Server("ws://127.0.0.1:8765", { WebSocket: this.WebSocket, ...options });
    server.condition = async () => condition;
    return server;
  }

  get last() {
    return this.sockets.at(-1);
  }

  /** The last socket, once so many have been opened. */
  async opened(count) {
    while (this.sockets.length < count) await new Promise((resolve) => this.#waiting.push(resolve));
    return this.last;
  }

  /** Answer the last socket, as the server does. */
  ready({ session = "s", acknowledged = 0, flushes = 0, instance = "" } = {}) {
    this.last.onopen();
    this.last.say({ type: "ready", session, acknowledged, flushes, heartbeat: 20, model: "m", languages: ["en"], instance });
    return this.last;
  }
}

export function started(utterance, time, channel = 0) {
  return { type: "speech_started", utterance, time, channel, seq: 1 };
}

export function final(utterance, start, end, text = "words", channel = 0) {
  const words = text ? [{ text, start, end, confidence: 0.5 }] : [];
  return { type: "final", utterance, start, end, text, words, confidence: 0.5, channel, ear: "m", language: "en", seq: 2 };
}

export function failure(code, message = "why") {
  return { type: "error", code, message, allowed: [] };
}
