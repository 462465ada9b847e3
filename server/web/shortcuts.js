// @ts-check
/** Single keys that press buttons: elements with `data-key` are clicked by that key. */

import { element } from "./dom.js";
import { remember, remembered } from "./settings.js";

/** Where keys mean something else. */
const TYPING = "input, select, textarea, audio, video, [contenteditable]";

export function connectShortcuts() {
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
