// @ts-check
/**
 * A recording that is recognised over as many connections and server sessions as it takes.
 *
 * When a connection breaks, its session is resumed. When the session itself is gone (the server was restarted, or ended
 * it after a long pause), a new one goes on from the last sentence that had its final: audio is kept until then, so no
 * sentence is lost. Times are seconds of the recording, over all its sessions.
 */

import { AudioBuffer } from "./audio-buffer.js";
import { Backoff } from "./backoff.js";

const BYTES_PER_SAMPLE = 2;
/** Audio that the server has, but has not answered with a final: the longest utterance, and what may wait for it. */
const KEPT_SECONDS = 60;
/** Audio that could not be sent; what is older is given up. */
const LONGEST_OUTAGE_SECONDS = 300;
/** Bytes that may wait in the browser for the network: more would only be in the way of a flush. */
const UNSENT_BYTES = 1 << 18;
const UNSENT_POLL_MILLISECONDS = 50;
/** After a pause this long there is nothing left that has not been recognised. */
const REST_MILLISECONDS = 5000;
const OPEN_TIMEOUT_SECONDS = 10;
/** Our close code for a connection that is silent; the server keeps the session after it. */
const SILENT_CLOSE = 4000;

/** Errors after which a new session may be had at once. */
const SESSION_OVER = ["unknown_session", "idle_timeout", "session_too_long"];
/** Errors after which one may be had later. */
const TRY_LATER = ["not_ready", "capacity", "shutting_down", "slow_client", "internal", "start_timeout"];

/** Counts the server's sessions: names of lines begin with it, and never come twice in a page. */
let sessions = 0;

/** @typedef {import("./transcript.js").Word} Word */
/**
 * How the connection is.
 *
 * - `connecting`: for the first time
 * - `connected`
 * - `reconnecting`: `reason` says why in words, or is empty; `retryAt` is when the next attempt is made
 * - `unauthorized`: waits for a token, and then for `retry`
 * - `resting`: there is no session because there is no audio
 * - `ended`: stopped, everything has been recognised
 * - `failed`: for good; `code` and `reason` say why
 *
 * @typedef {object} SessionState
 * @property {"connecting" | "connected" | "reconnecting" | "unauthorized" | "resting" | "ended" | "failed"} name
 * @property {string} [code] of the server's error
 * @property {string} [reason]
 * @property {number} [retryAt] as `Date.now()`
 */
/**
 * Why no connection can be had.
 *
 * @typedef {() => Promise<import("./server.js").Condition>} Diagnosis
 */

/**
 * Fires `state` (detail: `SessionState`), `partial` (`Draft`), `final` (`Line`, text may be empty), `forget` (`string[]`,
 * lines whose final will not come: they are recognised once more, as others) and `lost` (`{start, end}`, seconds of the
 * recording that were given up).
 */
export class Session extends EventTarget {
  #open;
  #diagnose;
  #start;
  #bytesPerSecond;
  #audio = new AudioBuffer();
  #backoff = new Backoff();
  /** @type {WebSocket | null} */
  #socket = null;
  /** Whether the server has answered on the current connection. */
  #ready = false;
  /** Name of the server's session, empty for none. */
  #name = "";
  #number = 0;
  /** Where in the recording the server's session began. */
  #origin = 0;
  /** `seq` of the last event. */
  #received = 0;
  #sent = 0;
  #acknowledged = 0;
  /** Everything before is in finals. */
  #settled = 0;
  /** @type {Set<string>} */
  #openLines = new Set();
  #heartbeat = 20;
  #flushWanted = false;
  #stopped = false;
  /** Whether the server was told so, on the current connection. */
  #stopSent = false;
  /** When there was audio last, as `performance.now()`. */
  #heard = 0;
  /** Attempts in a row that a server which is there turned down. */
  #refusals = 0;
  /** @type {SessionState} */
  #state = { name: "connecting" };
  /** The `error` that the server announced the close with. @type {{code: string, message: string} | null} */
  #error = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pump;

  /**
   * @param {object} options
   * @param {() => WebSocket} options.open opens a connection
   * @param {Diagnosis} options.diagnose
   * @param {number} options.rate samples per second
   * @param {string} options.room caption room, empty for none
   * @param {number} options.offset seconds that were recorded before
   */
  constructor({ open, diagnose, rate, room, offset }) {
    super();
    this.#open = open;
    this.#diagnose = diagnose;
    this.#start = { type: "start", format: "s16le", rate, ...(room && { room }) };
    this.#bytesPerSecond = rate * BYTES_PER_SAMPLE;
    this.offset = offset;
    this.#connect();
  }

  get state() {
    return this.#state;
  }

  /** Seconds recorded, with `offset`. */
  get duration() {
    return this.#seconds(this.#audio.end);
  }

  /** @param {ArrayBuffer} pcm */
  send(pcm) {
    this.#audio.append(pcm);
    this.#heard = performance.now();
    const oldest = this.#audio.end - LONGEST_OUTAGE_SECONDS * this.#bytesPerSecond;
    if (this.#sent < oldest) this.#giveUp(oldest);
    if (this.#state.name === "resting") this.#connect();
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
    if (this.#state.name === "resting") this.#end();
    else this.#transmit();
  }

  /** Do not wait for the next attempt to connect. */
  retry() {
    const waiting = this.#state.name === "reconnecting" || this.#state.name === "unauthorized";
    if (waiting && this.#socket === null) this.#connect();
  }

  /** End at once, whatever has not been recognised. */
  close() {
    this.#drop(1000);
    this.#end();
  }

  #connect() {
    this.#backoff.cancel();
    if (this.#state.name !== "reconnecting") this.#setState({ name: "connecting" });
    this.#ready = this.#stopSent = false;
    this.#error = null;
    const socket = this.#open();
    this.#socket = socket;
    this.#watch(OPEN_TIMEOUT_SECONDS);
    socket.onopen = () => {
      const first = this.#name
        ? { type: "resume", session: this.#name, received: this.#received }
        : this.#start;
      socket.send(JSON.stringify(first));
    };
    socket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#onClose(code, reason);
  }

  /** @param {number} code */
  #drop(code) {
    clearTimeout(this.#watchdog);
    clearTimeout(this.#pump);
    this.#pump = undefined;
    const socket = this.#socket;
    this.#socket = null;
    this.#ready = false;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** Take the connection for broken after so many seconds. @param {number} seconds */
  #watch(seconds) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#drop(SILENT_CLOSE);
      void this.#reconnect("The server does not answer.");
    }, seconds * 1000);
  }

  /** @param {any} message */
  #onMessage(message) {
    this.#watch(2 * this.#heartbeat);
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
        this.#drop(1000);
        this.#end();
        break;
    }
  }

  /** @param {{session: string, acknowledged: number, heartbeat: number}} message */
  #onReady({ session, acknowledged, heartbeat }) {
    if (!this.#name) {
      this.#name = session;
      this.#number = ++sessions;
      this.#received = 0;
      this.#origin = Math.max(this.#settled, this.#audio.start);
    }
    this.#heartbeat = heartbeat;
    this.#acknowledged = this.#sent = this.#origin + acknowledged;
    this.#ready = true;
    this.#backoff.reset();
    this.#refusals = 0;
    this.#watch(2 * heartbeat);
    this.#setState({ name: "connected" });
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
      end: this.#recorded(message.end),
      text: message.text,
      words: message.words.map((/** @type {Word} */ word) => ({
        ...word,
        start: this.#recorded(word.start),
        end: this.#recorded(word.end),
      })),
    });
  }

  /** @param {number} code @param {string} reason */
  #onClose(code, reason) {
    this.#drop(1000);
    const error = this.#error;
    if (error === null) {
      // 1008 and 1009 tell of something that would happen again; anything else is a connection that broke.
      if (code === 1008 || code === 1009) this.#fail("closed", reason);
      else if (code === 1000) this.#end();
      else void this.#reconnect("");
      return;
    }
    if (!SESSION_OVER.includes(error.code) && !TRY_LATER.includes(error.code)) {
      this.#fail(error.code, error.message);
      return;
    }
    this.#leaveSession();
    if (TRY_LATER.includes(error.code)) void this.#reconnect(explain(error.code, error.message));
    else if (error.code === "idle_timeout" && performance.now() - this.#heard > REST_MILLISECONDS) this.#rest();
    else this.#connect();
  }

  /** The server's session is over: whatever it has not finished is for the next one. */
  #leaveSession() {
    this.#name = "";
    if (this.#openLines.size) this.#tell("forget", [...this.#openLines]);
    this.#openLines.clear();
    this.#sent = this.#acknowledged = Math.max(this.#settled, this.#audio.start);
  }

  /** Wait for audio: what there was has been recognised. */
  #rest() {
    this.#settled = this.#sent = this.#acknowledged = this.#audio.end;
    this.#audio.forget(this.#audio.end);
    if (this.#stopped) this.#end();
    else this.#setState({ name: "resting" });
  }

  /** @param {string} reason */
  async #reconnect(reason) {
    const { seconds, due } = this.#backoff.next();
    this.#setState({ name: "reconnecting", reason, retryAt: Date.now() + seconds * 1000 });
    const why = reason ? "ready" : await this.#diagnose();
    if (this.#socket !== null || this.#state.name !== "reconnecting") return; // `retry` or `close` came first
    if (why === "unauthorized") {
      this.#backoff.cancel();
      this.#setState({ name: "unauthorized" });
      return;
    }
    if (!reason) this.#setState({ ...this.#state, reason: this.#explainCondition(why) });
    if (await due) this.#connect();
  }

  #transmit() {
    const socket = this.#socket;
    if (socket === null || !this.#ready) return;
    while (this.#sent < this.#audio.end) {
      if (socket.bufferedAmount > UNSENT_BYTES) {
        this.#pump ??= setTimeout(() => {
          this.#pump = undefined;
          this.#transmit();
        }, UNSENT_POLL_MILLISECONDS);
        return;
      }
      const piece = /** @type {Uint8Array<ArrayBuffer>} */ (this.#audio.read(this.#sent));
      socket.send(piece);
      this.#sent += piece.byteLength;
    }
    if (this.#stopped && !this.#stopSent) {
      socket.send('{"type":"stop"}');
      this.#stopSent = true;
    } else if (this.#flushWanted && !this.#stopped) {
      socket.send('{"type":"flush"}');
    }
    this.#flushWanted = false;
  }

  /** Audio that is in finals is not needed any more, nor silence that was long ago. */
  #forgetAudio() {
    const longAgo = this.#audio.end - KEPT_SECONDS * this.#bytesPerSecond;
    this.#settled = Math.max(this.#settled, Math.min(longAgo, this.#acknowledged));
    this.#audio.forget(Math.min(this.#settled, this.#acknowledged));
  }

  /** Do without the audio before `position`, which nobody has recognised. @param {number} position */
  #giveUp(position) {
    const aligned = position - (position % BYTES_PER_SAMPLE);
    this.#tell("lost", { start: this.#seconds(this.#settled), end: this.#seconds(aligned) });
    this.#name = ""; // its audio would have a gap
    this.#settled = aligned;
    this.#leaveSession();
    this.#audio.forget(aligned);
  }

  /** @param {import("./server.js").Condition} condition */
  #explainCondition(condition) {
    if (condition === "loading") return explain("not_ready", "");
    if (condition === "unreachable") return "The server cannot be reached.";
    this.#refusals += 1; // the first is likely to be a connection that broke
    return this.#refusals < 3 ? "" : `The server turns this page down; its setting “origins” may have to name ${location.origin}.`;
  }

  #end() {
    this.#backoff.cancel();
    this.#setState({ name: "ended" });
  }

  /** @param {string} code @param {string} reason */
  #fail(code, reason) {
    this.#setState({ name: "failed", code, reason });
  }

  /** @param {{utterance: number}} message */
  #line({ utterance }) {
    return `${this.#number}.${utterance}`;
  }

  /** @param {number} seconds of the server's session */
  #recorded(seconds) {
    return this.#seconds(this.#origin) + seconds;
  }

  /** @param {number} bytes of the recording */
  #seconds(bytes) {
    return this.offset + bytes / this.#bytesPerSecond;
  }

  /** @param {number} seconds */
  #bytes(seconds) {
    return Math.round((seconds * this.#bytesPerSecond) / BYTES_PER_SAMPLE) * BYTES_PER_SAMPLE;
  }

  /** @param {SessionState} state */
  #setState(state) {
    this.#state = state;
    this.#tell("state", state);
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * What a refusal means to the person who speaks.
 *
 * @param {string} code
 * @param {string} message of the server
 */
export function explain(code, message) {
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
