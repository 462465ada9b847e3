// @ts-check
/**
 * A recording that is recognised over as many connections and server sessions as it takes.
 *
 * When a connection breaks, its session is resumed. When the session itself is gone (the server was restarted, or ended
 * it after a long pause), a new one goes on from the last sentence that had its final: audio is kept until then, so no
 * sentence is lost. Times are seconds of the recording, over all its sessions.
 */

import { AudioBuffer } from "./audio-buffer.js";
import { Connection } from "./connection.js";

const BYTES_PER_SAMPLE = 2;
/** Audio that the server has, but has not answered with a final: the longest utterance, and what may wait for it. */
const KEPT_SECONDS = 60;
/** Audio that could not be sent: when there is more, the oldest is given up. */
const LONGEST_OUTAGE_SECONDS = 300;
const GIVEN_UP_SECONDS = 30;
/** Bytes that may wait in the browser for the network: more would only be in the way of a flush. */
const UNSENT_BYTES = 1 << 18;
const UNSENT_POLL_MILLISECONDS = 50;
/** Times that differ by less are the same. */
const SAME_SECONDS = 0.02;
/** After a pause this long there is nothing left that has not been recognised. */
const REST_MILLISECONDS = 5000;

/** Errors after which a new session may be had at once. */
const SESSION_OVER = ["unknown_session", "idle_timeout", "session_too_long"];
/** Errors after which one may be had later. */
const TRY_LATER = ["not_ready", "capacity", "shutting_down", "slow_client", "internal", "start_timeout"];
/** Closes without an error of the protocol that tell of something that would happen again. */
const HOPELESS_CLOSES = [1008, 1009];

/** @typedef {import("./transcript.js").Word} Word */
/**
 * How it goes: as the connection's state, or
 *
 * - `resting`: there is no session because there is no audio
 * - `ended`: stopped, everything has been recognised
 * - `failed`: for good; `reason` says why
 *
 * @typedef {import("./connection.js").ConnectionState | {name: "resting" | "ended" | "failed", reason?: string}} SessionState
 */

/**
 * Fires `state`, `ready` (`Known`), `partial` (detail: `Draft`), `final` (`Line`, text may be empty), `forget` (`string[]`, lines whose final
 * will not come: they are recognised once more, as others) and `lost` (`{start, end}`, seconds of the recording that were
 * given up).
 */
export class Session extends EventTarget {
  #connection;
  #start;
  /**
   * Parts of the recording that follow each other in what is sent, but not in time: `at` is where each begins, in
   * bytes; `time` when, in seconds.
   *
   * @type {{at: number, time: number}[]}
   */
  #parts;
  #bytesPerSecond;
  // Positions in the recording, in bytes.
  #audio = new AudioBuffer();
  /** Where the server's session began. */
  #origin = 0;
  #sent = 0;
  #acknowledged = 0;
  /** Everything before is in finals. */
  #settled = 0;

  /** Name of the server's session, empty for none. */
  #name = "";
  /** Name of the server that it is on, where there are several. */
  #instance = "";
  /** What names of its lines begin with: never the same again, also among lines that were kept. */
  #prefix = "";
  /** `seq` of the last event. */
  #received = 0;
  /** @type {Set<string>} */
  #openLines = new Set();
  #flushWanted = false;
  #stopped = false;
  /** Whether the server was told so, on the present connection. */
  #stopSent = false;
  /** When there was audio last, as `performance.now()`. */
  #heard = 0;
  /** What the server announced the close with. @type {{code: string, message: string} | null} */
  #error = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pump;
  /** @type {SessionState} */
  state = { name: "connecting" };

  /**
   * @param {object} options
   * @param {(room: string, instance: string) => WebSocket} options.open opens a connection
   * @param {() => Promise<import("./server.js").Condition>} options.diagnose
   * @param {number} options.rate samples per second
   * @param {string} options.room caption room, empty for none
   * @param {number} options.offset time at which the recording begins, in seconds
   */
  constructor({ open, diagnose, rate, room, offset }) {
    super();
    this.#start = { type: "start", format: "s16le", rate, ...(room && { room }) };
    this.#parts = [{ at: 0, time: offset }];
    this.#bytesPerSecond = rate * BYTES_PER_SAMPLE;
    this.#connection = new Connection(() => open(room, this.#instance), diagnose, {
      opened: () => this.#greet(),
      received: (message) => this.#onMessage(message),
      closed: (code, reason) => this.#onClose(code, reason),
      changed: (state) => this.#setState(state),
    });
    this.#connection.connect();
  }

  /** Latest time of the recording so far, in seconds. */
  get duration() {
    const ends = [...this.#parts.slice(1).map(({ at }) => at), this.#audio.end];
    return Math.max(...ends.map((end) => this.#seconds(end, true)));
  }

  /**
   * @param {ArrayBuffer} pcm 16-bit samples
   * @param {number} [time] when they were spoken, in seconds; right after those before, if it is left out
   */
  send(pcm, time) {
    const { end } = this.#audio;
    if (time !== undefined && Math.abs(time - this.#seconds(end)) > SAME_SECONDS) {
      if (this.#parts[this.#parts.length - 1].at === end) this.#parts.pop();
      this.#parts.push({ at: end, time });
    }
    this.#audio.append(pcm);
    this.#heard = performance.now();
    if (this.#audio.end - this.#sent > LONGEST_OUTAGE_SECONDS * this.#bytesPerSecond) this.#giveUp();
    if (this.state.name === "resting") this.#connection.connect();
    this.#transmit();
  }

  /** What was said so far gets its final now; the recording may go on. */
  flush() {
    this.#flushWanted = true;
    this.#transmit();
  }

  /** The recording has ended. */
  stop() {
    this.#stopped = true;
    if (this.state.name === "resting") this.#setState({ name: "ended" });
    else this.#transmit();
  }

  /** End at once, whatever has not been recognised. */
  abandon() {
    this.#connection.close();
    this.#setState({ name: "ended" });
  }

  /** Do not wait for the next attempt to connect. */
  retry() {
    this.#connection.retry();
  }

  #greet() {
    this.#stopSent = false;
    const first = this.#name ? { type: "resume", session: this.#name, received: this.#received } : this.#start;
    this.#connection.send(JSON.stringify(first));
  }

  /** @param {any} message */
  #onMessage(message) {
    if (message.seq) this.#received = message.seq;
    switch (message.type) {
      case "ready":
        this.#onReady(message);
        break;
      case "acknowledged":
        this.#acknowledged = this.#origin + message.bytes;
        this.#forgetAudio();
        break;
      case "speech_started":
        this.#openLines.add(this.#line(message));
        break;
      case "partial":
        this.#tell("partial", {
          id: this.#line(message),
          speaker: "",
          start: this.#recorded(message.start),
          stable: message.stable,
          draft: message.draft,
        });
        break;
      case "final":
        this.#onFinal(message);
        break;
      case "error":
        this.#error = message;
        break;
      case "done":
        this.#connection.close();
        this.#setState({ name: "ended" });
        break;
    }
  }

  /** @param {{session: string, acknowledged: number, heartbeat: number, model?: string, languages?: string[], ears?: import("./server.js").Ear[], instance?: string}} message */
  #onReady({ session, acknowledged, heartbeat, model = "", languages = [], ears = [], instance = "" }) {
    this.#tell("ready", { model, languages, ears });
    if (!this.#name) {
      this.#name = session;
      this.#instance = instance;
      this.#prefix = Math.random().toString(36).slice(2);
      this.#received = 0;
      this.#origin = this.#settled;
    }
    this.#acknowledged = this.#sent = this.#origin + acknowledged;
    this.#connection.heartbeat = heartbeat;
    this.#connection.establish();
    this.#transmit();
  }

  /** @param {any} message */
  #onFinal(message) {
    const id = this.#line(message);
    this.#openLines.delete(id);
    this.#settled = Math.max(this.#settled, this.#origin + this.#bytes(message.end));
    this.#forgetAudio();
    this.#tell("final", {
      id,
      speaker: "",
      start: this.#recorded(message.start),
      end: this.#recorded(message.end, true),
      text: message.text,
      words: message.words.map((/** @type {Word} */ word) => ({
        ...word,
        start: this.#recorded(word.start),
        end: this.#recorded(word.end, true),
      })),
    });
  }

  /** @param {number} code @param {string} reason */
  #onClose(code, reason) {
    const error = this.#error;
    this.#error = null;
    if (error === null) {
      if (HOPELESS_CLOSES.includes(code)) this.#setState({ name: "failed", reason });
      else void this.#connection.reconnect("");
    } else if (TRY_LATER.includes(error.code)) {
      this.#leaveSession();
      void this.#connection.reconnect(explain(error));
    } else if (SESSION_OVER.includes(error.code)) {
      this.#leaveSession();
      if (error.code === "idle_timeout" && performance.now() - this.#heard > REST_MILLISECONDS) this.#rest();
      else this.#connection.connect();
    } else {
      this.#setState({ name: "failed", reason: explain(error) });
    }
  }

  /** The server's session is over: whatever it has not finished is for the next one. */
  #leaveSession() {
    this.#name = this.#instance = "";
    if (this.#openLines.size) this.#tell("forget", [...this.#openLines]);
    this.#openLines.clear();
    this.#sent = this.#acknowledged = this.#settled;
  }

  /** Wait for audio: what there was has been recognised. */
  #rest() {
    this.#settled = this.#sent = this.#acknowledged = this.#audio.end;
    this.#audio.forget(this.#audio.end);
    this.#setState({ name: this.#stopped ? "ended" : "resting" });
  }

  #transmit() {
    const connection = this.#connection;
    if (!connection.established) return;
    while (this.#sent < this.#audio.end) {
      if (connection.unsent > UNSENT_BYTES) {
        this.#pump ??= setTimeout(() => {
          this.#pump = undefined;
          this.#transmit();
        }, UNSENT_POLL_MILLISECONDS);
        return;
      }
      const piece = this.#audio.read(this.#sent);
      connection.send(piece);
      this.#sent += piece.byteLength;
    }
    if (this.#stopped && !this.#stopSent) {
      connection.send('{"type":"stop"}');
      this.#stopSent = true;
    } else if (this.#flushWanted && !this.#stopped) {
      connection.send('{"type":"flush"}');
    }
    this.#flushWanted = false;
  }

  /** Audio that is in finals is not needed any more, nor silence that was long ago. */
  #forgetAudio() {
    const longAgo = this.#audio.end - KEPT_SECONDS * this.#bytesPerSecond;
    this.#settled = Math.max(this.#settled, Math.min(longAgo, this.#acknowledged));
    this.#audio.forget(Math.min(this.#settled, this.#acknowledged));
  }

  /** Do without the oldest audio, which nobody has recognised. */
  #giveUp() {
    const position = this.#sent + GIVEN_UP_SECONDS * this.#bytesPerSecond;
    this.#tell("lost", { start: this.#seconds(this.#settled), end: this.#seconds(position) });
    this.#settled = position;
    this.#audio.forget(position);
    // The server's session would have a gap.
    this.#leaveSession();
    if (this.#connection.busy) this.#connection.connect();
  }

  /** @param {{utterance: number}} message */
  #line({ utterance }) {
    return `${this.#prefix}.${utterance}`;
  }

  /**
   * To the millisecond, as the server has it.
   *
   * @param {number} seconds of the server's session @param {boolean} [end] of something
   */
  #recorded(seconds, end = false) {
    return Math.round(this.#seconds(this.#origin + seconds * this.#bytesPerSecond, end) * 1000) / 1000;
  }

  /** @param {number} bytes of what is sent @param {boolean} [end] whether something ends there */
  #seconds(bytes, end = false) {
    let part = this.#parts[0];
    for (const each of this.#parts) {
      if (end ? each.at < bytes : each.at <= bytes) part = each;
    }
    return part.time + (bytes - part.at) / this.#bytesPerSecond;
  }

  /** @param {number} seconds */
  #bytes(seconds) {
    return Math.round((seconds * this.#bytesPerSecond) / BYTES_PER_SAMPLE) * BYTES_PER_SAMPLE;
  }

  /** @param {SessionState} state */
  #setState(state) {
    this.state = state;
    this.#tell("state", state);
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * What an error of the server means to the person who speaks.
 *
 * @param {{code: string, message: string}} error
 */
function explain({ code, message }) {
  switch (code) {
    case "not_ready":
      return "The server is loading its model.";
    case "capacity":
      return "The server has no room for another speaker.";
    case "shutting_down":
      return "The server is shutting down.";
    default:
      return `The server says: ${message}`;
  }
}
