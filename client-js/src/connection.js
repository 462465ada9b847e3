// @ts-check
/** A WebSocket of JSON messages that is opened again when it breaks. What is said over it is for others to know. */

import { Backoff } from "./backoff.js";

/**
 * How long to wait for a connection, twice as long after each that was waited for in vain though the server is there.
 * Firefox makes one only after up to a minute when others have failed before, and that time begins again if the page does
 * not wait for it.
 */
const OPEN_TIMEOUT_SECONDS = 10;
const LONGEST_OPEN_TIMEOUT_SECONDS = 80;
/** The last attempt has so long, too, and one that is to be made again. */
const LEAST_OPEN_TIMEOUT_SECONDS = 4;
/** A server that seems not to be there is tried all the same, when it has been away for three times as long, up to this. */
const LONGEST_BLIND_SECONDS = 60;
/** `WebSocket.CONNECTING`, which not all have. */
const CONNECTING = 0;
/** Our close code for a connection that is silent; the server keeps a session after it. */
const SILENT_CLOSE = 4000;
/** So many attempts in a row that a server turns down, though it is there, are no accident. */
const MOST_REFUSALS = 3;

/** @typedef {import("./server.js").Condition} Condition */
/**
 * - `connecting`: for the first time
 * - `connected`: the server has answered
 * - `reconnecting`: `reason` says why in words, or is empty; the next attempt is made at `retryAt`
 * - `unauthorized`: waits for a token, and then for `retry`
 *
 * @typedef {object} ConnectionState
 * @property {"connecting" | "connected" | "reconnecting" | "unauthorized"} name
 * @property {string} [reason]
 * @property {number} [retryAt] as `Date.now()`
 */
/**
 * @typedef {object} Handlers
 * @property {() => void} opened say what has to be said first
 * @property {(message: any) => void} received call `established` once the message is the right one
 * @property {(code: number, reason: string) => void} closed call `connect`, `reconnect`, or leave it
 * @property {(state: ConnectionState) => void} changed
 * @property {(condition: Condition) => boolean} [there] whether an attempt makes sense; when the server is `ready`, if left out
 * @property {(reason: string) => void} [gaveUp] no more attempts are made
 */

export class Connection {
  #open;
  #diagnose;
  #handlers;
  #backoff = new Backoff();
  #refusals = 0;
  #openTimeout = OPEN_TIMEOUT_SECONDS;
  /** When a connection was last tried, as `performance.now()`. */
  #tried = -Infinity;
  /** Whether the server was not there since. */
  #absent = false;
  /** Whether that connection was waited for in vain. */
  #late = false;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  /** @type {ConnectionState} */
  #state = { name: "connecting" };
  /** Counts what makes earlier plans void. */
  #turn = 0;
  /** Since when the server has not answered, as `performance.now()`. */
  #missing = performance.now();
  #patience;
  /** The server is never silent for longer than this many seconds. */
  heartbeat = 20;

  /**
   * @param {() => WebSocket} open
   * @param {() => Promise<Condition>} diagnose finds out why the server cannot be connected to
   * @param {Handlers} handlers
   * @param {number} [patience] seconds without the server after which no more attempts are made
   */
  constructor(open, diagnose, handlers, patience = Infinity) {
    this.#open = open;
    this.#diagnose = diagnose;
    this.#handlers = handlers;
    this.#patience = patience;
  }

  /** Whether the server has answered on the present connection. */
  get established() {
    return this.#socket !== null && this.#state.name === "connected";
  }

  /** Whether there is a connection, or one is being made. */
  get busy() {
    return this.#socket !== null;
  }

  /** Bytes that wait for the network. */
  get unsent() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {string | Uint8Array<ArrayBuffer>} data */
  send(data) {
    this.#socket?.send(data);
  }

  /** Make an attempt now. */
  connect() {
    this.close();
    if (this.#state.name !== "reconnecting") this.#setState({ name: "connecting" });
    this.#tried = performance.now();
    this.#missing = Math.min(this.#missing, this.#tried);
    this.#absent = this.#late = false;
    const socket = this.#open();
    this.#socket = socket;
    const left = (this.#deadline - this.#tried) / 1000;
    this.#watch(Math.min(this.#openTimeout, Math.max(left, LEAST_OPEN_TIMEOUT_SECONDS)));
    socket.onopen = () => this.#handlers.opened();
    socket.onmessage = ({ data }) => {
      this.#watch(2 * this.heartbeat);
      this.#handlers.received(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      this.close();
      this.#handlers.closed(code, reason);
    };
  }

  /** The server has answered as it should. */
  establish() {
    this.#missing = Infinity;
    this.#openTimeout = OPEN_TIMEOUT_SECONDS;
    this.#backoff.reset();
    this.#refusals = 0;
    this.#watch(2 * this.heartbeat);
    this.#setState({ name: "connected" });
  }

  /**
   * Make an attempt after a while, longer each time, or as soon as a server that was not there is back.
   *
   * @param {string} reason in words; empty to find out
   */
  async reconnect(reason) {
    const turn = ++this.#turn;
    const { seconds, due } = this.#backoff.next();
    this.#missing = Math.min(this.#missing, performance.now());
    this.#setState({ name: "reconnecting", reason: reason || this.#state.reason, retryAt: Date.now() + seconds * 1000 });
    /** @type {Condition} */
    let condition = "ready"; // as whoever has given a reason is
    if (!reason || this.#late) {
      condition = await this.#diagnose();
      if (turn !== this.#turn) return; // `retry` or `close` came first
    }
    if (condition === "unauthorized") {
      this.#backoff.cancel();
      this.#missing = Infinity;
      this.#setState({ name: "unauthorized" });
      return;
    }
    const there = this.#handlers.there?.(condition) ?? condition === "ready";
    if (there && this.#absent) {
      this.connect();
      return;
    }
    if (there && this.#late) this.#openTimeout = Math.min(2 * this.#openTimeout, LONGEST_OPEN_TIMEOUT_SECONDS);
    this.#absent = !there;
    if (!reason) this.#setState({ ...this.#state, reason: this.#explain(there ? "ready" : condition) });
    if (performance.now() + seconds * 1000 > this.#deadline) {
      this.close();
      this.#handlers.gaveUp?.(this.#state.reason || "The server cannot be reached.");
    } else if (await due) {
      if (there || this.#triesBlindly(condition)) this.connect();
      else void this.reconnect("");
    }
  }

  /** When no more attempts are made, as `performance.now()`. */
  get #deadline() {
    return this.#missing + this.#patience * 1000;
  }

  /**
   * Whether to try a server that is not there, in case that only its other answers do not come through.
   *
   * @param {Condition} condition
   */
  #triesBlindly(condition) {
    if (condition !== "unreachable" && condition !== "unready") return false; // it has said so itself
    const waited = performance.now() - this.#tried;
    return waited > Math.min(2 * (this.#tried - this.#missing), LONGEST_BLIND_SECONDS * 1000);
  }

  /** Do not wait for the next attempt, nor for a connection that is not made. */
  retry() {
    const waiting = this.#state.name === "reconnecting" || this.#state.name === "unauthorized";
    const slow = performance.now() > this.#tried + LEAST_OPEN_TIMEOUT_SECONDS * 1000;
    if (this.#socket === null ? waiting : slow && this.#socket.readyState === CONNECTING) this.connect();
  }

  /** Let go of the connection, and make no more attempts. */
  close(code = 1000) {
    this.#turn += 1;
    this.#backoff.cancel();
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** Take the connection for broken when nothing comes for so long. @param {number} seconds */
  #watch(seconds) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#late = !this.established;
      this.close(SILENT_CLOSE);
      void this.reconnect("The server does not answer.");
    }, seconds * 1000);
  }

  /** @param {Condition} condition */
  #explain(condition) {
    switch (condition) {
      case "loading":
        return "The server is loading its model.";
      case "full":
        return "The server is full.";
      case "stopping":
        return "The server is shutting down.";
      case "unready":
        return "The server is not ready.";
      case "unreachable":
        return "The server cannot be reached.";
      default:
        this.#refusals += 1;
        return this.#refusals < MOST_REFUSALS
          ? ""
          : `The server turns this page down; its setting “origins” may have to name ${globalThis.location?.origin}.`;
    }
  }

  /** @param {ConnectionState} state */
  #setState(state) {
    this.#state = state;
    this.#handlers.changed(state);
  }
}
