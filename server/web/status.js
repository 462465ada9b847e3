// @ts-check
/** The line that says how it goes. */

import { element } from "./dom.js";

/** @typedef {"idle" | "live" | "waiting"} Look */

export class Status {
  #line = element("status", HTMLElement);
  #words = element("status-text", HTMLElement);
  /** Screen readers are not told: it changes every second. */
  #when = element("status-when", HTMLElement);
  /** Captions over the whole screen hide the line, but not that something is wrong. */
  #projected = element("projector-status", HTMLElement);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} text @param {Look} look */
  show(text, look) {
    clearTimeout(this.#timer);
    this.#when.textContent = "";
    this.#line.dataset.state = this.#projected.dataset.state = look;
    for (const words of [this.#words, this.#projected]) {
      if (words.textContent !== text) words.textContent = text; // screen readers say it again when it is set again
    }
  }

  /**
   * Say why there is no connection, and go on counting the seconds down.
   *
   * @param {import("./client/connection.js").ConnectionState} state
   */
  showConnection(state) {
    if (state.name === "unauthorized") this.show("Waiting for a token", "waiting");
    else if (state.name === "connecting") this.show("Connecting", "waiting");
    else {
      const seconds = Math.ceil(((state.retryAt ?? 0) - Date.now()) / 1000);
      this.show(state.reason || "Reconnecting", "waiting");
      if (seconds > 1) this.#when.textContent = `Trying again in ${seconds} s`;
      this.#timer = setTimeout(() => this.showConnection(state), 1000);
    }
  }
}
