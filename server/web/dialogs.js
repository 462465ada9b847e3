// @ts-check
/** Dialogs, copying and saving: small things that pages share. */

import { element } from "./dom.js";

/** Buttons with `data-opens` open the dialog of that id; a click beside a dialog closes it. */
export function connectDialogs() {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-opens]"))) {
    const dialog = element(button.dataset.opens ?? "", HTMLDialogElement);
    button.addEventListener("click", () => dialog.showModal());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    if (dialog.classList.contains("dialog")) {
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    }
    for (const button of dialog.querySelectorAll("[data-closes]")) {
      button.addEventListener("click", () => dialog.close());
    }
  }
}

/**
 * Copy text and say so on the button for a moment.
 *
 * @param {HTMLElement} button
 * @param {string} text
 */
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent ?? "");
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here"; // insecure pages have no clipboard
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/**
 * @param {string} name
 * @param {Blob} content
 */
export function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
