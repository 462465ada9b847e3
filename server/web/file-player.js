// @ts-check
/**
 * A recording that is captioned while it plays, whatever its listener does with the player.
 *
 * What has been captioned is not captioned again when it is played again; what was skipped is captioned when somebody
 * goes back to it. The recording is at its normal speed, at which it was spoken.
 */

import { Coverage } from "./coverage.js";

/** Sound that was counted before the player really began: no more than this in each go. */
const LATE_START_SECONDS = 1;
/** Nobody speaks a word in less: what is left between parts that were captioned is no more than inexact times. */
const SHORTEST_SECONDS = 0.3;

/** Fires `jump` before the sound goes on somewhere else, and `speed` when somebody has tried another one. */
export class FilePlayer extends EventTarget {
  #player;
  #heard = new Coverage();
  /** Where in the recording the next piece of sound begins, in seconds. */
  #position = 0;
  /** From where on all that was played is captioned for the first time; null where it was before. @type {number | null} */
  #since = null;
  /** Whether it was played at all: a browser that refuses to gives silence. */
  #begun = false;
  /** Whether the sound that comes is the recording's: while the player looks for a place, it is silence. */
  #steady = true;
  /** When the recording begins on the transcript's clock, in seconds. */
  #offset = 0;

  /** @param {HTMLAudioElement} player */
  constructor(player) {
    super();
    this.#player = player;
    player.addEventListener("play", () => (this.#begun = true));
    player.addEventListener("seeking", () => {
      this.#steady = false;
      this.dispatchEvent(new Event("jump"));
    });
    player.addEventListener("seeked", () => {
      this.#position = player.currentTime;
      this.#since = null;
      this.#steady = true;
    });
    player.addEventListener("waiting", () => (this.#steady = false));
    player.addEventListener("playing", () => (this.#steady = !player.seeking));
    player.addEventListener("ratechange", () => {
      if (player.playbackRate === 1) return;
      player.playbackRate = 1;
      this.dispatchEvent(new Event("speed"));
    });
  }

  /** @param {string} url @param {number} offset when it begins on the transcript's clock, in seconds */
  load(url, offset) {
    URL.revokeObjectURL(this.#player.src);
    this.#player.src = url;
    this.#heard = new Coverage();
    this.#position = 0;
    this.#since = null;
    this.#begun = false;
    this.#steady = true;
    this.#offset = offset;
  }

  /**
   * Take the next piece of sound.
   *
   * @param {number} seconds how long it is
   * @returns {number | null} when it begins on the transcript's clock; null if it is not to be captioned (again)
   */
  take(seconds) {
    if (!this.#begun || !this.#steady) return null;
    const start = this.#position;
    this.#position += seconds;
    const begins = this.#since === null;
    const least = begins ? SHORTEST_SECONDS : seconds / 2;
    const rest = (this.#player.duration || Infinity) - start;
    if ((begins && rest < least) || this.#heard.overlaps(start, start + least)) {
      this.#since = null;
      return null;
    }
    this.#since ??= start;
    this.#heard.add(start, this.#position);
    return this.#offset + start;
  }

  /** The sound has paused: what was counted is what has been played. */
  settle() {
    const { currentTime, seeking } = this.#player;
    if (seeking) return;
    const ahead = this.#position - currentTime;
    if (this.#since !== null && ahead > 0 && ahead < LATE_START_SECONDS) {
      this.#heard.remove(Math.max(currentTime, this.#since), this.#position);
    }
    this.#position = currentTime;
  }
}
