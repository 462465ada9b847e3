// @ts-check
/** Watching a caption room: its transcript is kept up to date over as many connections as it takes. */

import { Connection } from "./client/connection.js";

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {{line: number, speaker: string, start: number, end: number, text: string}} RoomLine as the server sends it */
/** @typedef {{id: string, lines: RoomLine[], earlier: number}} RoomLines lines of the room `id`, and how many came before */

/** A line may get its final after so many later ones. */
const OVERLAP = 20;
const RETRY_MILLISECONDS = 5000;

/**
 * Fires `state` when `state` or `live` has changed, `history` when `earlier` has, and `older` (detail: a function
 * that adds lines which are not the newest; one that listens calls it).
 */
export class Room extends EventTarget {
  #connection;
  #transcript;
  #history;
  /** Which of the rooms of this name the server has: one that was restarted knows nothing of the one before. */
  #id = "";
  /** Counts them. */
  #number = 0;
  /** Where the present one begins on the transcript's clock, in seconds. */
  #offset = 0;
  /** The first and the last line that are known, of the present one. */
  #first = Infinity;
  #last = -1;
  /** Everything between the first line and this one is known. */
  #complete = -1;
  /** Whether all of the present one is wanted at once: it began while nobody was looking. */
  #wanted = false;
  #loading = false;
  /** Counts the snapshots. */
  #turn = 0;
  /** What the server announced the close with. */
  #error = "";
  /** @type {import("./client/connection.js").ConnectionState} */
  state = { name: "connecting" };
  /** Whether somebody speaks in it. */
  live = false;
  /** Lines before the first one that is known. */
  earlier = 0;

  /**
   * @param {() => WebSocket} open
   * @param {() => Promise<import("./server.js").Condition>} diagnose
   * @param {Transcript} transcript
   * @param {((before: number) => Promise<RoomLines>) | null} history fetches lines before one; null to do without them
   */
  constructor(open, diagnose, transcript, history = null) {
    super();
    this.#transcript = transcript;
    this.#history = history;
    this.#connection = new Connection(open, diagnose, {
      opened: () => {},
      received: (message) => this.#onMessage(message),
      closed: () => {
        const reason = this.#error;
        this.#error = "";
        void this.#connection.reconnect(reason);
      },
      there: (condition) => condition === "ready" || condition === "full", // readers need no place
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

  /** Fetch some of the lines before the first one that is known. */
  async loadEarlier() {
    if (this.#loading || this.earlier === 0) return;
    await this.#load(this.#first);
  }

  /** @param {any} message */
  #onMessage(message) {
    switch (message.type) {
      case "room":
        this.live = message.live;
        this.#catchUp(message);
        this.#connection.establish();
        break;
      case "partial": {
        const { line, speaker, start, stable, draft } = message;
        this.#transcript.setDraft({ id: this.#name(line), speaker, start: this.#offset + start, stable, draft });
        break;
      }
      case "final":
        this.#take(message);
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

  /** @param {RoomLine} line has just become final */
  #take(line) {
    const whole = this.#complete === this.#last;
    this.#last = Math.max(this.#last, line.line);
    if (whole) this.#complete = this.#last;
    if (this.#first === Infinity) this.#meet(line.line, 0);
    this.#add(line);
  }

  /** @param {RoomLines} newest */
  #catchUp({ id, lines, earlier }) {
    const turn = ++this.#turn;
    this.#transcript.forget(this.#transcript.drafts.map(({ id }) => id));
    if (id !== this.#id) {
      this.#wanted = this.#id !== "";
      if (this.#wanted) this.#number += 1;
      this.#id = id;
      this.#offset = this.#transcript.lines.at(-1)?.end ?? 0;
      this.#first = Infinity;
      this.#last = this.#complete = -1;
      this.earlier = 0;
    }
    for (const line of lines) this.#add(line);
    if (lines.length === 0) return;
    const first = lines[0].line;
    this.#last = Math.max(this.#last, lines[lines.length - 1].line);
    if (this.#complete < 0 || this.#reaches(first, earlier)) this.#complete = this.#last;
    this.#meet(first, earlier);
    void this.#fill(first, turn);
  }

  /** Whether nothing is missing between the lines that were known and these. @param {number} first @param {number} earlier */
  #reaches(first, earlier) {
    return earlier === 0 || first <= this.#complete - OVERLAP;
  }

  /**
   * Fetch what was said while nobody was looking: lines before `before`, back to those that are known.
   *
   * @param {number} before @param {number} turn
   */
  async #fill(before, turn) {
    while (this.#history && turn === this.#turn && (this.#wanted ? this.earlier > 0 : this.#complete < this.#last)) {
      const loaded = await this.#load(before);
      if (turn !== this.#turn) return; // another snapshot came
      if (loaded === null) {
        setTimeout(() => turn === this.#turn && void this.#fill(before, turn), RETRY_MILLISECONDS);
        return;
      }
      before = loaded.lines[0]?.line ?? 0;
      if (this.#reaches(before, loaded.earlier)) this.#complete = this.#last;
    }
    if (turn === this.#turn) this.#wanted = false;
  }

  /** @param {number} before @returns {Promise<RoomLines | null>} null if they cannot be had now */
  async #load(before) {
    const history = this.#history;
    if (history === null) return null;
    this.#loading = true;
    try {
      const loaded = await history(before);
      if (loaded.id !== this.#id) return null;
      this.dispatchEvent(new CustomEvent("older", { detail: () => loaded.lines.forEach((line) => this.#add(line)) }));
      this.#meet(loaded.lines[0]?.line ?? before, loaded.earlier);
      return loaded;
    } catch {
      return null;
    } finally {
      this.#loading = false;
    }
  }

  /** Take note of a line that is known, and of how many came before it. @param {number} line @param {number} earlier */
  #meet(line, earlier) {
    if (line > this.#first) return;
    this.#first = line;
    this.earlier = earlier;
    this.dispatchEvent(new Event("history"));
  }

  /** @param {RoomLine} line */
  #add({ line, speaker, start, end, text }) {
    const id = this.#name(line);
    this.#transcript.add({ id, speaker, start: this.#offset + start, end: this.#offset + end, text, words: [] });
  }

  /** @param {number} line */
  #name(line) {
    return `${this.#number}.${line}`;
  }
}
