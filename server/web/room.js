// @ts-check
/** Watching a caption room: its transcript is kept up to date over as many connections as it takes. */

import { Connection } from "./connection.js";

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {{line: number, speaker: string, start: number, end: number, text: string}} RoomLine as the server sends it */

/** Fires `state` when `state` or `live` has changed. */
export class Room extends EventTarget {
  #connection;
  #transcript;
  /** Counts the rooms of this name: a server that was restarted knows nothing of the one before. */
  #number = 0;
  /** Where the present one begins on the transcript's clock, in seconds. */
  #offset = 0;
  /** What the server announced the close with. */
  #error = "";
  /** @type {import("./connection.js").ConnectionState} */
  state = { name: "connecting" };
  /** Whether somebody speaks in it. */
  live = false;

  /**
   * @param {() => WebSocket} open
   * @param {() => Promise<import("./server.js").Condition>} diagnose
   * @param {Transcript} transcript
   */
  constructor(open, diagnose, transcript) {
    super();
    this.#transcript = transcript;
    this.#connection = new Connection(open, diagnose, {
      opened: () => {},
      received: (message) => this.#onMessage(message),
      closed: () => {
        const reason = this.#error;
        this.#error = "";
        void this.#connection.reconnect(reason);
      },
      changed: (state) => {
        this.state = state;
        this.dispatchEvent(new Event("state"));
      },
    });
    this.#connection.connect();
  }

  /** Do not wait for the next attempt to connect. */
  retry() {
    this.#connection.retry();
  }

  /** @param {any} message */
  #onMessage(message) {
    switch (message.type) {
      case "room":
        this.live = message.live;
        this.#catchUp(message.lines);
        this.#connection.establish();
        break;
      case "partial": {
        const { line, speaker, start, stable, draft } = message;
        this.#transcript.setDraft({ id: this.#id(line), speaker, start: this.#offset + start, stable, draft });
        break;
      }
      case "final":
        this.#add(message);
        break;
      case "live":
        if (this.live === message.live) break; // a heartbeat
        this.live = message.live;
        this.dispatchEvent(new Event("state"));
        break;
      case "error":
        this.#error = `The server says: ${message.message}.`;
        break;
    }
  }

  /** @param {RoomLine[]} lines the newest of the room, some of which are known */
  #catchUp(lines) {
    const known = this.#transcript.lines.filter(({ id }) => id.startsWith(this.#id("")));
    const texts = new Map(known.map(({ id, text }) => [id, text]));
    const changed = lines.some(({ line, text }) => (texts.get(this.#id(line)) ?? text) !== text);
    const gone = known.length > 0 && !lines.some(({ line }) => texts.has(this.#id(line)));
    const later = lines.length > 0 && known.length > 0 && this.#offset + lines[0].start > known[known.length - 1].start;
    if (changed || (gone && !later)) {
      this.#number += 1;
      this.#offset = this.#transcript.lines.at(-1)?.end ?? 0;
    }
    this.#transcript.forget(this.#transcript.drafts.map(({ id }) => id));
    for (const line of lines) this.#add(line);
  }

  /** @param {RoomLine} line */
  #add({ line, speaker, start, end, text }) {
    const id = this.#id(line);
    this.#transcript.add({ id, speaker, start: this.#offset + start, end: this.#offset + end, text, words: [] });
  }

  /** @param {number | string} line */
  #id(line) {
    return `${this.#number}.${line}`;
  }
}
