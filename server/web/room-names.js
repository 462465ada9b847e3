// @ts-check
/** What rooms may be called: the rules of server/wire/room_names.py, for a field that mends what is typed. */

const NOT_ALLOWED = /[^\p{L}\p{M}\p{N}_-]+/gu;
const MARKS_WITHOUT_A_LETTER = /^\p{M}+/u;
const LONGEST = 64;
const LONGEST_BYTES = 200;

/** The nearest name to what is given; empty if there is none. @param {string} given */
export function roomName(given) {
  const allowed = given.normalize("NFC").replace(NOT_ALLOWED, "-").replace(MARKS_WITHOUT_A_LETTER, "");
  const characters = [...allowed].slice(0, LONGEST);
  while (new TextEncoder().encode(characters.join("")).length > LONGEST_BYTES) characters.pop();
  return characters.join("");
}

/**
 * Keep the name in a field a possible one. Input methods are left alone until they are done with a word.
 *
 * @param {HTMLInputElement} field @param {() => void} changed
 */
export function mendWhileTyping(field, changed) {
  const mend = () => {
    const name = roomName(field.value);
    if (field.value !== name) field.value = name;
    changed();
  };
  field.addEventListener("input", (event) => {
    if (!(/** @type {InputEvent} */ (event).isComposing)) mend();
  });
  field.addEventListener("compositionend", mend);
}
