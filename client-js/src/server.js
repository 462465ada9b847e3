// @ts-check
/** Where a server is, how it is shown the token, and what it says about itself. */

const PROTOCOL = "parastream.v1";
const TOKEN_PROTOCOL = "parastream.token.";

/** What HTTP allows in the name of a subprotocol. */
const SUBPROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** A server that takes longer to say how it is cannot be reached. */
const ANSWER_MILLISECONDS = 10_000;

/**
 * Whether sessions can be had: `loading` while the server has no model yet, `full` while it has no place for another one,
 * `stopping` while it shuts down, and `unready` for any other reason.
 *
 * @typedef {"ready" | "loading" | "full" | "stopping" | "unready" | "unauthorized" | "unreachable"} Condition
 */
/** @type {Record<string, Condition>} */
const CONDITIONS = { "loading the model": "loading", "shutting down": "stopping" };

export class Server {
  /** What the server is shown; empty for nothing. @type {string} */
  token;
  /** Its address as that of a directory. @type {URL} */
  #root;
  #WebSocket;

  /**
   * @param {string | URL} url `ws://`, `wss://`, `http://` or `https://`; with a path if the server is below one
   * @param {object} [options]
   * @param {string} [options.token]
   * @param {typeof WebSocket} [options.WebSocket] for Node before 22, which has none: that of the package `ws`
   */
  constructor(url, { token = "", WebSocket = globalThis.WebSocket } = {}) {
    if (!WebSocket) throw new TypeError("there is no WebSocket here: pass one, such as that of the package `ws`");
    this.token = token;
    this.#root = new URL(url);
    this.#root.protocol = this.#root.protocol.replace(/^ws/, "http");
    if (!/^https?:$/.test(this.#root.protocol)) {
      throw new TypeError(`${url} is no address of a server; allowed: ws://, wss://, http:// and https://`);
    }
    this.#root.search = this.#root.hash = "";
    if (!this.#root.pathname.endsWith("/")) this.#root.pathname += "/";
    this.#WebSocket = WebSocket;
  }

  /** The address of something on the server. @param {string} path without a slash at the beginning */
  url(path) {
    return new URL(path, this.#root);
  }

  /**
   * Open a WebSocket for a session. A balancer between several servers looks at the query.
   *
   * @param {string} [room] empty for none
   * @param {string} [instance] the server that the session is on; empty for any
   * @param {boolean} [resumes] whether it goes on with a session that there is
   */
  openSession(room = "", instance = "", resumes = false) {
    const query = new URLSearchParams({ ...(room && { room }), ...(instance && { on: instance }) });
    if (resumes && !instance) query.set("resume", "1");
    return this.open(query.size ? `v1/stream?${query}` : "v1/stream", PROTOCOL);
  }

  /** Open a WebSocket. @param {string} path @param {string} protocol */
  open(path, protocol) {
    const url = this.url(path);
    url.protocol = url.protocol.replace(/^http/, "ws");
    const protocols = [protocol];
    if (SUBPROTOCOL.test(this.token)) protocols.push(TOKEN_PROTOCOL + this.token);
    else if (this.token) url.searchParams.set("token", this.token);
    const socket = new this.#WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    return socket;
  }

  /**
   * Fetch with the token. Rejects when the server cannot be reached.
   *
   * @param {string | URL} path
   * @param {RequestInit} [options] without headers
   */
  fetch(path, options = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : undefined;
    return fetch(this.url(String(path)), { headers, ...options });
  }

  /**
   * Find out why a connection cannot be had: a browser does not say what a refused WebSocket was answered.
   *
   * @param {string} path of something that asks for the same token
   * @returns {Promise<Condition>}
   */
  async condition(path = "v1/info") {
    const signal = AbortSignal.timeout(ANSWER_MILLISECONDS);
    try {
      const answer = await this.fetch(path, { signal });
      if (answer.status === 401) return "unauthorized";
      const ready = await fetch(this.url("readyz"), { signal });
      const { places, reason } = await ready.json().catch(() => ({})); // of a proxy, it may be anything
      if (ready.ok) return places === 0 ? "full" : "ready";
      return CONDITIONS[reason] ?? "unready";
    } catch {
      return "unreachable";
    }
  }

  /**
   * Ask what the server hears with.
   *
   * @returns {Promise<import("./messages.js").Known>}
   */
  async info() {
    try {
      const answer = await this.fetch("v1/info");
      return answer.ok ? await answer.json() : { model: null, languages: null };
    } catch {
      return { model: null, languages: null };
    }
  }
}
