// @ts-check
/** A session to be iterated over, for recordings and wherever nothing may be lost: `send` waits for the server. */

import { Server } from "./server.js";
import { Session } from "./session.js";

/** Audio that the server has not acknowledged; `send` waits when there is more. */
const PENDING_BYTES = 1 << 20;
/** Bytes that `send` takes at a time. */
const PIECE_BYTES = 1 << 16;

const EVENTS = /** @type {const} */ ([
  "speech_started",
  "partial",
  "speech_ended",
  "tags",
  "final",
  "flushed",
  "stats",
  "done",
  "forgotten",
]);

/** @typedef {Exclude<import("./messages.js").SessionEvent, import("./messages.js").Lost>} ClientEvent */
/**
 * @typedef {object} ClientOptions
 * @property {string} [token]
 * @property {typeof WebSocket} [WebSocket] for Node before 22, which has none: that of the package `ws`
 * @property {number} [patience] seconds without the server after which the client gives up; 30 if it is left out
 * @property {(state: import("./session.js").SessionState) => void} [onState] is told how it goes
 */

/** The server has refused something. `code` is that of its protocol. */
export class ServerError extends Error {
  name = "ServerError";

  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** There is no connection to the server, for longer than the client's patience or for good. */
export class ConnectionFailedError extends Error {
  name = "ConnectionFailedError";
}

/**
 * Begin a session.
 *
 * @param {string | URL} url `ws://`, `wss://`, `http://` or `https://` address of the server
 * @param {import("./messages.js").StartOptions & ClientOptions} [options]
 */
export function connect(url, options) {
  return new Client(url, options);
}

/**
 * A session with a server, made by `connect`; iterating gives its events, up to `done`. Iteration, and `send`, throw a
 * `ServerError` or a `ConnectionFailedError` when the session cannot go on, after the events that came before.
 *
 * @implements {AsyncIterableIterator<ClientEvent>}
 */
export class Client {
  #session;
  /** @type {ClientEvent[]} */
  #events = [];
  #ended = false;
  /** @type {Error | null} */
  #failure = null;
  /** Those who wait for something to change. @type {(() => void)[]} */
  #waiting = [];
  /** Audio is taken in the order in which it was sent. @type {Promise<void>} */
  #sending = Promise.resolve();

  /** @param {string | URL} url @param {import("./messages.js").StartOptions & ClientOptions} [options] */
  constructor(url, { token, WebSocket, patience = 30, onState, ...start } = {}) {
    const server = new Server(url, { token, WebSocket });
    this.#session = new Session(server, { ...start, patience, outage: Infinity });
    for (const type of EVENTS) {
      this.#session.on(type, (event) => {
        this.#events.push(event);
        this.#wake();
      });
    }
    this.#session.on("progress", () => this.#wake());
    this.#session.on("state", (state) => {
      if (state.name === "unauthorized") this.#fail(new ConnectionFailedError("the server asks for a token that it knows"));
      else if (state.name === "failed") this.#fail(errorOf(state));
      else if (state.name === "ended") this.#end();
      onState?.(state);
    });
  }

  /**
   * Send audio, cut anywhere; waits while the server has too much that it has not acknowledged. All of it is sent, in
   * the order of the calls, also if nobody waits for the promise.
   *
   * @param {ArrayBuffer | ArrayBufferView} audio samples in the session's format; must not change before it has been taken
   * @returns {Promise<void>}
   */
  send(audio) {
    this.#sending = this.#sending.then(() => this.#send(audio));
    return this.#sending;
  }

  /** End the utterance here: its final comes, then `flushed`, and the session goes on. */
  async flush() {
    await this.#sending;
    this.#check();
    this.#session.flush();
  }

  /** The audio has ended: iterate on for the finals and `done`. */
  async stop() {
    await this.#sending;
    this.#check();
    this.#session.stop();
  }

  /** Close the connection. Events that came before can still be had. */
  close() {
    if (!this.#ended) this.#session.abandon();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<ClientEvent, undefined>>} */
  async next() {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) return { done: false, value: event };
      if (this.#failure !== null) throw this.#failure;
      if (this.#ended) return { done: true, value: undefined };
      await this.#change();
    }
  }

  /** @param {ArrayBuffer | ArrayBufferView} audio */
  async #send(audio) {
    const bytes = ArrayBuffer.isView(audio)
      ? new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength)
      : new Uint8Array(audio);
    for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
      while (!this.#ended && this.#session.pending > PENDING_BYTES) await this.#change();
      this.#check();
      this.#session.send(bytes.subarray(at, at + PIECE_BYTES));
    }
  }

  #check() {
    if (this.#failure !== null) throw this.#failure;
    if (this.#ended) throw new Error("the session has ended");
  }

  /** @returns {Promise<void>} */
  #change() {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** @param {Error} failure */
  #fail(failure) {
    this.#failure = failure;
    this.#end();
  }

  #end() {
    this.#ended = true;
    this.#wake();
  }
}

/** @param {import("./session.js").SessionState} state that of a session which has failed */
function errorOf(state) {
  const code = "code" in state ? state.code : undefined;
  const reason = state.reason || "the server has closed the connection";
  return code === undefined ? new ConnectionFailedError(reason) : new ServerError(code, reason);
}
