// @ts-check
/** What was said: finished lines and drafts of those that are still spoken. Times in seconds. */

/** @typedef {{text: string, start: number, end: number, confidence: number}} Word */
/**
 * A sentence that will not change any more.
 *
 * @typedef {object} Line
 * @property {string} id
 * @property {string} speaker empty where there is only one
 * @property {number} start
 * @property {number} end
 * @property {string} text
 * @property {Word[]} words
 */
/**
 * A sentence that is being spoken.
 *
 * @typedef {object} Draft
 * @property {string} id
 * @property {string} speaker
 * @property {number} start
 * @property {string} stable
 * @property {string} draft may still change; follows right after `stable`, spacing included
 */

/** Fires `line` (detail: `{line, index}`), `drafts` and `clear`. */
export class Transcript extends EventTarget {
  /** In the order in which they began. @type {Line[]} */
  lines = [];
  /** @type {Set<string>} */
  #ids = new Set();
  /** @type {Map<string, Draft>} */
  #drafts = new Map();

  /** In the order in which they began. */
  get drafts() {
    return [...this.#drafts.values()].sort((one, other) => one.start - other.start);
  }

  get empty() {
    return this.lines.length === 0 && this.#drafts.size === 0;
  }

  /** @param {Draft} draft replaces the line's previous one */
  setDraft(draft) {
    this.#drafts.set(draft.id, draft);
    this.dispatchEvent(new Event("drafts"));
  }

  /**
   * Take a line in place of its draft; one without text vanishes.
   *
   * @param {Line} line
   * @returns {boolean} whether it is a new one
   */
  add(line) {
    this.#drafts.delete(line.id);
    const added = Boolean(line.text) && !this.#ids.has(line.id);
    if (added) {
      this.#ids.add(line.id);
      let index = this.lines.length;
      while (index > 0 && this.lines[index - 1].start > line.start) index--;
      this.lines.splice(index, 0, line);
      this.dispatchEvent(new CustomEvent("line", { detail: { line, index } }));
    }
    this.dispatchEvent(new Event("drafts"));
    return added;
  }

  /** @param {string[]} ids drafts whose lines will not come */
  forget(ids) {
    for (const id of ids) this.#drafts.delete(id);
    this.dispatchEvent(new Event("drafts"));
  }

  /** Begin anew. */
  clear() {
    this.lines = [];
    this.#ids.clear();
    this.#drafts.clear();
    this.dispatchEvent(new Event("clear"));
  }
}
