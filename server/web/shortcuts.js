// @ts-check
/** Single keys that press buttons: elements with `data-key` are clicked by that key. */

import { addDialog } from "./dialogs.js";
import { element } from "./dom.js";
import { remember, remembered } from "./settings.js";

/** Where keys mean something else. */
const TYPING = "input, select, textarea, audio, video, [contenteditable]";

/** What every page has. */
const COMMON = [
  ["F", "Projector view; <kbd>Esc</kbd> leaves it"],
  ["T", "Light or dark"],
  ["End", "Jump to the newest line"],
  ["?", "This list"],
];

/** @param {string[][]} own keys of this page, and what they do */
export function connectShortcuts(own) {
  const rows = [...own, ...COMMON].map(([key, does]) => `<div><dt><kbd>${key}</kbd></dt><dd>${does}</dd></div>`);
  addDialog(`
    <dialog id="shortcuts-dialog" class="dialog" aria-labelledby="shortcuts-title">
      <h2 id="shortcuts-title">Keyboard shortcuts</h2>
      <dl class="keys">${rows.join("")}</dl>
      <p class="check"><input type="checkbox" id="shortcuts-enabled" checked><label for="shortcuts-enabled">Use shortcuts</label></p>
      <div class="dialog-end"><button type="button" class="secondary" data-closes>Done</button></div>
    </dialog>
  `);
  const enabled = element("shortcuts-enabled", HTMLInputElement);
  enabled.checked = remembered("shortcuts", "on") === "on";
  enabled.addEventListener("change", () => remember("shortcuts", enabled.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!enabled.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (target.closest(TYPING) || (event.key === " " && target.closest("button, a, summary"))) return;
    // While a dialog is open only its own keys count; the projector view is the page once more.
    const scope = document.querySelector("dialog[open]:not(.projector)") ?? document;
    const key = event.key.toLowerCase();
    const button = /** @type {HTMLButtonElement | null} */ (scope.querySelector(`[data-key="${CSS.escape(key)}"]`));
    if (button === null || button.disabled || button.hidden) return;
    event.preventDefault();
    button.click();
  });
}
