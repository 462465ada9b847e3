// @ts-check
/** The line that says how it goes. */

import { element } from "./dom.js";

/** @typedef {"idle" | "live" | "waiting"} Look */

export class Status {
  #line = element("status", HTMLElement);
  #words = element("status-text", HTMLElement);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} text @param {Look} look */
  show(text, look) {
    clearTimeout(this.#timer);
    this.#line.dataset.state = look;
    // Screen readers say it again when it is set again.
    if (this.#words.textContent !== text) this.#words.textContent = text;
  }

  /**
   * Say why there is no connection, and go on counting the seconds down.
   *
   * @param {import("./connection.js").ConnectionState} state
   */
  showConnection(state) {
    if (state.name === "unauthorized") this.show("Waiting for a token", "waiting");
    else if (state.name === "connecting") this.show("Connecting", "waiting");
    else {
      const seconds = Math.ceil(((state.retryAt ?? 0) - Date.now()) / 1000);
      const when = seconds > 1 ? `Trying again in ${seconds} s` : "Reconnecting";
      this.show(state.reason ? `${state.reason} ${when}` : when, "waiting");
      this.#timer = setTimeout(() => this.showConnection(state), 1000);
    }
  }
}
