// @ts-check
/** Light, dark, or as the system has it. */

import { remember, remembered } from "./settings.js";

const NAMES = { auto: "as the system", light: "light", dark: "dark" };
/** @typedef {keyof typeof NAMES} Theme */
const ORDER = /** @type {Theme[]} */ (Object.keys(NAMES));

/** Apply what is remembered. */
export function applyTheme() {
  document.documentElement.dataset.theme = current();
}

/** @param {HTMLButtonElement} button goes from one theme to the next */
export function connectThemeButton(button) {
  const show = () => {
    const label = `Colours: ${NAMES[current()]}`;
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  button.addEventListener("click", () => {
    remember("theme", ORDER[(ORDER.indexOf(current()) + 1) % ORDER.length]);
    applyTheme();
    show();
  });
  show();
}

/** @returns {Theme} */
function current() {
  const name = remembered("theme", "auto");
  return Object.hasOwn(NAMES, name) ? /** @type {Theme} */ (name) : "auto";
}

applyTheme();
