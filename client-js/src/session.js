// @ts-check
/**
 * Live audio that is recognised over as many connections and server sessions as it takes.
 *
 * When a connection breaks, its session is resumed. When the session itself is gone (the server was restarted, or ended
 * it after a long pause), a new one goes on from the last sentence that had its final: audio is kept until then, so no
 * sentence is lost. Times are seconds of the recording, over all its sessions, and utterances are numbered likewise.
 */

import { AudioBuffer } from "./audio-buffer.js";
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";

const BYTES_PER_SAMPLE = { s16le: 2, s24le: 3, s32le: 4, u8: 1, f32le: 4, f64le: 8, mulaw: 1, alaw: 1 };
/** Audio that the server has, but has not answered with a final: the longest utterance, and what may wait for it. */
const KEPT_SECONDS = 60;
const GIVEN_UP_SECONDS = 30;
/** Bytes that may wait in the browser for the network: more would only be in the way of a flush. */
const UNSENT_BYTES = 1 << 18;
const UNSENT_POLL_MILLISECONDS = 50;
/** Bytes in a message; servers take 1 MiB. */
const MESSAGE_BYTES = 1 << 16;
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

/** @typedef {import("./messages.js").SessionEvent} SessionEvent */
/** @typedef {import("./server.js").Condition} Condition */
/** @typedef {import("./messages.js").Word} Word */
/**
 * How it goes: as the connection's state, or
 *
 * - `resting`: there is no session because there is no audio
 * - `ended`: stopped, everything has been recognised
 * - `failed`: for good; `reason` says why in words, `code` is that of the server's error if it sent one
 *
 * @typedef {import("./connection.js").ConnectionState | {name: "resting" | "ended" | "failed", reason?: string, code?: string}} SessionState
 */
/**
 * @typedef {object} SessionOptions
 * @property {number} [offset] time at which the recording begins, in seconds
 * @property {number} [outage] seconds of audio that wait for the server; when there is more, the oldest is given up.
 *   300 if it is left out
 * @property {number} [patience] seconds without the server after which the session fails; it waits for ever if it is left out
 */
/**
 * Each kind of `SessionEvent` comes under its own name; `state` when that has changed; `ready` with what listens, for each
 * session of the server; `progress` when audio has been sent or acknowledged.
 *
 * @typedef {{[E in SessionEvent as E["type"]]: E} & {
 *   state: SessionState,
 *   ready: import("./messages.js").Known,
 *   progress: undefined,
 * }} SessionEvents
 */

/** @extends {Emitter<SessionEvents>} */
export class Session extends Emitter {
  #connection;
  #start;
  #outage;
  /**
   * Parts of the recording that follow each other in what is sent, but not in time: `at` is where each begins, in
   * bytes; `time` when, in seconds.
   *
   * @type {{at: number, time: number}[]}
   */
  #parts;
  #bytesPerFrame;
  #bytesPerSecond;
  // Positions in the recording, in bytes.
  #audio = new AudioBuffer();
  /** Where the server's session began. */
  #origin = 0;
  #sent = 0;
  #acknowledged = 0;
  /** Where the last of the finals ends. */
  #heard = 0;
  /** Everything before is in finals. */
  #settled = 0;
  /** Flushes that were not answered. @type {number[]} */
  #flushes = [];
  /** So many of them were sent on the present connection. */
  #flushesSent = 0;
  /** Flushes of the server's session that were answered. */
  #flushed = 0;

  /** Name of the server's session, empty for none. */
  #name = "";
  /** Name of the server that it is on, where there are several. */
  #instance = "";
  /** Number of its first utterance. */
  #first = 0;
  /** Utterances of the recording so far. */
  #utterances = 0;
  /** `seq` of the last event. */
  #received = 0;
  /** Where utterances begin whose finals have not come, by their numbers. @type {Map<number, number>} */
  #open = new Map();
  #stopped = false;
  /** Whether the server was told so, on the present connection. */
  #stopSent = false;
  /** When there was audio last, as `performance.now()`. */
  #fed = 0;
  /** What the server announced the close with. @type {{code: string, message: string} | null} */
  #error = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pump;
  /** @type {SessionState} */
  state = { name: "connecting" };

  /**
   * Begin, and connect.
   *
   * @param {import("./server.js").Server} server
   * @param {import("./messages.js").StartOptions & SessionOptions} [options]
   */
  constructor(server, { offset = 0, outage = 300, patience, ...start } = {}) {
    super();
    const { format = "s16le", rate = 16000, channels = 1 } = start;
    if (!(format in BYTES_PER_SAMPLE)) {
      throw new TypeError(`format ${format} is not supported; allowed: ${Object.keys(BYTES_PER_SAMPLE).join(", ")}`);
    }
    this.#start = { type: "start", ...start, format, rate, channels };
    this.#outage = outage;
    this.#parts = [{ at: 0, time: offset }];
    this.#bytesPerFrame = BYTES_PER_SAMPLE[format] * channels;
    this.#bytesPerSecond = rate * this.#bytesPerFrame;
    const handlers = {
      opened: () => this.#greet(),
      received: (/** @type {any} */ message) => this.#onMessage(message),
      closed: (/** @type {number} */ code, /** @type {string} */ reason) => this.#onClose(code, reason),
      changed: (/** @type {SessionState} */ state) => this.#setState(state),
      gaveUp: (/** @type {string} */ reason) => this.#setState({ name: "failed", reason }),
      // Whoever comes back to a session has a place.
      there: (/** @type {Condition} */ condition) =>
        condition === "ready" || (condition === "full" && this.#name !== ""),
    };
    const open = () => server.openSession(start.room, this.#instance, this.#name !== "");
    this.#connection = new Connection(open, () => server.condition(), handlers, patience);
    this.#connection.connect();
  }

  /** Latest time of the recording so far, in seconds. */
  get duration() {
    const ends = [...this.#parts.slice(1).map(({ at }) => at), this.#audio.end];
    return Math.max(...ends.map((end) => this.#seconds(end, true)));
  }

  /** Bytes of audio that the server has not acknowledged. */
  get pending() {
    return this.#audio.end - this.#acknowledged;
  }

  /**
   * Take audio, which may be cut anywhere.
   *
   * @param {ArrayBuffer | ArrayBufferView} audio samples in the session's format
   * @param {number} [time] when they were spoken, in seconds; right after those before, if it is left out
   */
  send(audio, time) {
    if (this.#stopped) throw new Error("send() after stop()");
    const { end } = this.#audio;
    if (time !== undefined && Math.abs(time - this.#seconds(end)) > SAME_SECONDS) {
      if (this.#parts[this.#parts.length - 1].at === end) this.#parts.pop();
      this.#parts.push({ at: end, time });
    }
    this.#audio.append(copyOf(audio));
    this.#fed = performance.now();
    if (this.#audio.end - this.#sent > this.#outage * this.#bytesPerSecond) this.#giveUp();
    if (this.state.name === "resting") this.#connection.connect();
    this.#transmit();
  }

  /** What was said so far gets its final now, and then `flushed` comes; the recording may go on. */
  flush() {
    if (this.#stopped) return; // everything gets its final now
    this.#flushes.push(this.#audio.end);
    if (this.state.name === "resting") this.#answerFlushes();
    else this.#transmit();
  }

  /** The recording has ended; the rest follows. */
  stop() {
    this.#stopped = true;
    if (this.state.name === "resting") this.#end();
    else this.#transmit();
  }

  /** End at once, whatever has not been recognised. */
  abandon() {
    clearTimeout(this.#pump);
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
        this.emit("progress", undefined);
        break;
      case "error":
        this.#error = message;
        break;
      case "done":
        this.#connection.close();
        this.#end();
        break;
      default:
        this.#onEvent(message);
    }
  }

  /** @param {{session: string, acknowledged: number, flushes?: number, heartbeat: number, model?: string, languages?: string[], ears?: import("./messages.js").Ear[], instance?: string}} message */
  #onReady({ session, acknowledged, flushes = 0, heartbeat, model = "", languages = [], ears = [], instance = "" }) {
    this.emit("ready", { model, languages, ears });
    if (!this.#name) {
      this.#name = session;
      this.#instance = instance;
      this.#first = this.#utterances;
      this.#received = 0;
      this.#flushed = 0;
      this.#origin = this.#heard = this.#settled;
    }
    this.#acknowledged = this.#sent = this.#origin + acknowledged;
    this.#flushesSent = flushes - this.#flushed;
    this.#connection.heartbeat = heartbeat;
    this.#connection.establish();
    this.#transmit();
  }

  /** @param {any} message one that is told of, with the times and numbers of the recording */
  #onEvent({ seq, ...message }) {
    if (message.utterance !== undefined) message.utterance += this.#first;
    const { type, utterance } = message;
    switch (type) {
      case "speech_started":
        this.#utterances = Math.max(this.#utterances, utterance + 1);
        this.#open.set(utterance, this.#origin + this.#bytes(message.time));
        message.time = this.#recorded(message.time);
        break;
      case "speech_ended":
        message.time = this.#recorded(message.time, true);
        break;
      case "final":
        this.#open.delete(utterance);
        this.#heard = Math.max(this.#heard, Math.min(this.#origin + this.#bytes(message.end), this.#sent));
        this.#settled = Math.max(this.#settled, Math.min(this.#heard, ...this.#open.values()));
        this.#forgetAudio();
        break;
      case "flushed":
        message.time = this.#recorded(message.time, true);
        this.#flushes.shift();
        this.#flushesSent -= 1;
        this.#flushed += 1;
        break;
      case "stats":
        message.received += this.#origin / this.#bytesPerSecond;
        break;
    }
    if (type === "final" || type === "partial") {
      message.start = this.#recorded(message.start);
      message.end = this.#recorded(message.end, true);
      message.words = message.words.map((/** @type {Word} */ word) => ({
        ...word,
        start: this.#recorded(word.start),
        end: this.#recorded(word.end, true),
      }));
    }
    this.#tell(message);
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
      if (error.code === "idle_timeout" && performance.now() - this.#fed > REST_MILLISECONDS) this.#rest();
      else this.#connection.connect();
    } else {
      this.#setState({ name: "failed", reason: explain(error), code: error.code });
    }
  }

  /** The server's session is over: whatever it has not finished is for the next one. */
  #leaveSession() {
    this.#name = this.#instance = "";
    if (this.#open.size) this.#tell({ type: "forgotten", utterances: [...this.#open.keys()] });
    this.#open.clear();
    this.#sent = this.#acknowledged = this.#settled;
    this.#flushes = this.#flushes.map((at) => Math.max(at, this.#settled));
    this.#flushesSent = 0;
  }

  /** Wait for audio: what there was has been recognised. */
  #rest() {
    this.#settled = this.#sent = this.#acknowledged = this.#audio.end;
    this.#audio.forget(this.#audio.end);
    this.#answerFlushes();
    if (this.#stopped) this.#end();
    else this.#setState({ name: "resting" });
  }

  /** Everything has been recognised. */
  #answerFlushes() {
    for (const at of this.#flushes.splice(0)) this.#tell({ type: "flushed", time: this.#seconds(at, true) });
  }

  #end() {
    this.#tell({ type: "done", duration: this.duration });
    this.#setState({ name: "ended" });
  }

  #transmit() {
    const connection = this.#connection;
    if (!connection.established) return;
    for (;;) {
      const flush = this.#flushes[this.#flushesSent] ?? Infinity;
      if (flush <= this.#sent) {
        connection.send('{"type":"flush"}');
        this.#flushesSent += 1;
      } else if (this.#sent === this.#audio.end) {
        break;
      } else if (connection.unsent > UNSENT_BYTES) {
        this.#pump ??= setTimeout(() => {
          this.#pump = undefined;
          this.#transmit();
        }, UNSENT_POLL_MILLISECONDS);
        return;
      } else {
        const piece = this.#audio.read(this.#sent, Math.min(MESSAGE_BYTES, flush - this.#sent));
        connection.send(piece);
        this.#sent += piece.byteLength;
      }
    }
    if (this.#stopped && !this.#stopSent) {
      connection.send('{"type":"stop"}');
      this.#stopSent = true;
    }
  }

  /** Audio that is in finals is not needed any more, nor silence that was long ago. */
  #forgetAudio() {
    this.#settled = Math.max(this.#settled, this.#acknowledged - this.#aligned(KEPT_SECONDS * this.#bytesPerSecond));
    this.#audio.forget(Math.min(this.#settled, this.#acknowledged));
  }

  /** Do without the oldest audio, which nobody has recognised. */
  #giveUp() {
    const given = this.#aligned(GIVEN_UP_SECONDS * this.#bytesPerSecond);
    const position = Math.min(this.#sent + given, this.#audio.end);
    this.#tell({ type: "lost", start: this.#seconds(this.#settled), end: this.#seconds(position) });
    this.#settled = position;
    this.#audio.forget(position);
    // The server's session would have a gap.
    this.#leaveSession();
    if (this.#connection.busy) this.#connection.connect();
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
    return this.#aligned(seconds * this.#bytesPerSecond);
  }

  /** The nearest place between samples. @param {number} bytes */
  #aligned(bytes) {
    return Math.round(bytes / this.#bytesPerFrame) * this.#bytesPerFrame;
  }

  /** @param {SessionState} state */
  #setState(state) {
    this.state = state;
    this.emit("state", state);
  }

  /** @param {any} event */
  #tell(event) {
    this.emit(/** @type {SessionEvent["type"]} */ (event.type), event);
  }
}

/** Callers may use their memory again. @param {ArrayBuffer | ArrayBufferView} audio @returns {Uint8Array<ArrayBuffer>} */
function copyOf(audio) {
  return ArrayBuffer.isView(audio)
    ? new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength).slice()
    : new Uint8Array(audio.slice(0));
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
