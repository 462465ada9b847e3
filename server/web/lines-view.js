// @ts-check
/** A transcript on the page: finished lines, and below them what is being spoken. */

import { clock } from "./subtitles.js";

const HAN = /\p{Script=Han}/u;

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").Line} Line */
/** @typedef {import("./transcript.js").Draft} Draft */

/**
 * Screen readers are told of finished lines only: drafts change several times a second.
 */
export class LinesView {
  #transcript;
  #list;
  #drafts;
  #keep;
  #fadeSeconds;

  /**
   * @param {Transcript} transcript
   * @param {object} elements
   * @param {HTMLElement} elements.list takes an element for each line
   * @param {HTMLElement} elements.drafts takes the drafts; hidden from screen readers
   * @param {object} [options]
   * @param {number} [options.keep] only so many of the newest lines are shown
   * @param {number} [options.fadeSeconds] lines disappear after so long; 0 for never
   */
  constructor(transcript, { list, drafts }, { keep = Infinity, fadeSeconds = 0 } = {}) {
    this.#transcript = transcript;
    this.#list = list;
    this.#drafts = drafts;
    this.#keep = keep;
    this.#fadeSeconds = fadeSeconds;
    transcript.addEventListener("line", (event) => {
      const { line, index } = /** @type {CustomEvent<{line: Line, index: number}>} */ (event).detail;
      this.#insert(line, transcript.lines.length - 1 - index);
    });
    transcript.addEventListener("drafts", () => this.#showDrafts());
    transcript.addEventListener("clear", () => this.#showAll());
    this.#showAll();
  }

  #showAll() {
    this.#list.replaceChildren();
    for (const line of this.#transcript.lines.slice(-this.#keep)) this.#insert(line, 0);
    this.#showDrafts();
  }

  /** @param {Line} line @param {number} after how many newer lines there are */
  #insert(line, after) {
    if (after >= this.#keep) return;
    const added = row("li", line, text(line.text));
    this.#list.insertBefore(added, after ? this.#list.children[this.#list.children.length - after] : null);
    if (this.#fadeSeconds) setTimeout(() => added.classList.add("gone"), this.#fadeSeconds * 1000);
    while (this.#list.children.length > this.#keep) this.#list.firstElementChild?.remove();
  }

  #showDrafts() {
    const rows = this.#transcript.drafts
      .filter(({ stable, draft }) => stable || draft)
      .map((draft) => row("div", draft, text(draft.stable, "stable"), space(draft.draft), text(draft.draft.trimStart(), "draft")));
    this.#drafts.replaceChildren(...rows);
  }
}

/**
 * @param {"li" | "div"} tag
 * @param {Line | Draft} line
 * @param {(HTMLElement | string)[]} texts
 */
function row(tag, { start, speaker }, ...texts) {
  const element = document.createElement(tag);
  element.className = "line";
  const time = document.createElement("time");
  time.textContent = clock(start);
  time.classList.toggle("hours", start >= 3600); // they take more room
  const spoken = document.createElement("span");
  spoken.className = "spoken";
  if (speaker) spoken.append(text(speaker, "speaker"), " ");
  spoken.append(...texts);
  element.append(time, spoken);
  return element;
}

/** What comes before a draft's first word: it is not marked as a draft. @param {string} draft */
function space(draft) {
  return draft.slice(0, draft.length - draft.trimStart().length);
}

/** @param {string} content @param {string} [className] */
function text(content, className = "text") {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = content;
  if (HAN.test(content)) element.lang = "zh"; // for the right letters and the right voice
  return element;
}
