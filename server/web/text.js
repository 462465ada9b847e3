// @ts-check
/**
 * Running text: how utterances are joined, and which characters are full-width.
 *
 * The same rules as model/text.py, which explains them; tests/data/joins.json has cases that both must pass.
 */

import { WIDE_RANGES } from "./wide.js";

const UNSPACED =
  /[\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\uffe0-\uffef\u{20000}-\u{3ffff}]/u;
const PHRASE_ENDS = ".,;:!?";
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+"; // as in Python
const EVERY_SPACE = new RegExp(SPACE, "gu");
const SPACE_AT_START = new RegExp(`^${SPACE}`, "u");
const SPACE_AT_END = new RegExp(`${SPACE}$`, "u");

/** Utterances as one text; empty ones are left out. @param {string[]} texts */
export function join(texts) {
  let joined = "";
  for (const text of texts) {
    if (text) joined += joined && isSpaced(joined, text) ? ` ${text}` : text;
  }
  return joined;
}

/** Whether a space belongs between two texts, neither of them empty. @param {string} before @param {string} after */
function isSpaced(before, after) {
  const [left] = backwards(before);
  const [right] = after;
  if (!trim(left) || !trim(right)) return false;
  const unspaced = [UNSPACED.test(left), UNSPACED.test(right)];
  if (PHRASE_ENDS.includes(left) || !unspaced.includes(true)) return true;
  if (!unspaced.includes(false)) return false;
  return unspaced[0] ? isLetter(left) && beginsWithWord(after) : isLetter(right) && beginsWithWord(backwards(before));
}

/** Whether these begin with a run of letters and digits that has a letter. @param {Iterable<string>} characters */
function beginsWithWord(characters) {
  for (const character of characters) {
    if (!/[\p{L}\p{N}]/u.test(character) || UNSPACED.test(character)) return false;
    if (isLetter(character)) return true;
  }
  return false;
}

/** @param {string} character */
function isLetter(character) {
  return /\p{L}/u.test(character);
}

/** The characters of a text, the last one first. @param {string} text */
function* backwards(text) {
  for (let end = text.length; end > 0; ) {
    const pair = end > 1 && /** @type {number} */ (text.codePointAt(end - 2)) > 0xffff;
    const start = end - (pair ? 2 : 1);
    yield text.slice(start, end);
    end = start;
  }
}

/** The text without the white space around it. @param {string} text */
export function trim(text) {
  return trimEnd(text).replace(SPACE_AT_START, "");
}

/** The text without the white space at its end. @param {string} text */
export function trimEnd(text) {
  return text.replace(SPACE_AT_END, "");
}

/** The text with single spaces, and none around it. @param {string} text */
export function collapseSpace(text) {
  return text.replace(EVERY_SPACE, " ").replace(/^ | $/g, "");
}

/** Whether a character is full-width and takes two columns. @param {string} character */
export function isWide(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  let [low, high] = [0, WIDE_RANGES.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (WIDE_RANGES[middle] <= code) low = middle + 1;
    else high = middle;
  }
  return low % 2 === 1; // between the beginning of a range and its end
}
