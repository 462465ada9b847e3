// @ts-check
/** The dialog for copying and downloading a transcript. */

import { copy, download } from "./dialogs.js";
import { element } from "./dom.js";
import { MIME_TYPES, render } from "./subtitles.js";

/** @typedef {import("./subtitles.js").Format} Format */

export class Saving {
  /** Whether all of the transcript has been copied or downloaded. */
  saved = true;
  #transcript;
  #title;

  /**
   * @param {import("./transcript.js").Transcript} transcript
   * @param {() => string} title what names of files begin with
   */
  constructor(transcript, title) {
    this.#transcript = transcript;
    this.#title = title;
    transcript.addEventListener("line", () => this.#changed(false));
    transcript.addEventListener("clear", () => this.#changed(true));
    this.#changed(true);
    const copyButton = element("copy-text", HTMLButtonElement);
    copyButton.addEventListener("click", () => void this.#copy(copyButton));
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-format]"))) {
      button.addEventListener("click", () => this.#download(/** @type {Format} */ (button.dataset.format)));
    }
  }

  /** @param {boolean} saved */
  #changed(saved) {
    this.saved = saved;
    const none = this.#transcript.lines.length === 0;
    element("save-empty", HTMLElement).hidden = !none;
    element("save-choices", HTMLElement).hidden = none;
  }

  /** @param {HTMLElement} button */
  async #copy(button) {
    const label = /** @type {HTMLElement} */ (button.querySelector("b"));
    if (await copy(label, render(this.#transcript.lines, "txt"))) this.saved = true;
  }

  /** @param {Format} format */
  #download(format) {
    const now = new Date();
    const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
    const minute = local.toISOString().slice(0, 16).replace("T", " ").replace(":", ".");
    const content = new Blob([render(this.#transcript.lines, format)], { type: MIME_TYPES[format] });
    download(`${this.#title()} ${minute}.${format}`, content);
    this.saved = true;
  }
}
