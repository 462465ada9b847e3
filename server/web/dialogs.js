// @ts-check
/** Dialogs, copying and saving: small things that pages share. */

import { element } from "./dom.js";

/** Add a dialog that several pages have. @param {string} html */
export function addDialog(html) {
  document.body.insertAdjacentHTML("beforeend", html);
}

/** Buttons with `data-opens` open the dialog of that id; a click beside a dialog closes it. */
export function connectDialogs() {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-opens]"))) {
    const dialog = element(button.dataset.opens ?? "", HTMLDialogElement);
    button.addEventListener("click", () => dialog.showModal());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    if (dialog.classList.contains("dialog")) closeByClickBeside(dialog);
    for (const button of dialog.querySelectorAll("[data-closes]")) {
      button.addEventListener("click", () => dialog.close());
    }
  }
}

/** @param {HTMLDialogElement} dialog */
function closeByClickBeside(dialog) {
  let pressedBeside = false; // text that is selected in a field may be let go of beside the dialog
  dialog.addEventListener("pointerdown", ({ clientX, clientY }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    pressedBeside = clientX < left || clientX > right || clientY < top || clientY > bottom;
  });
  dialog.addEventListener("click", (event) => event.target === dialog && pressedBeside && dialog.close());
}

/**
 * Copy text and say so in a button's words for a moment.
 *
 * @param {HTMLElement} words
 * @param {string} text
 * @returns {Promise<boolean>} whether it was copied: pages at addresses that are not secure have no clipboard
 */
export async function copy(words, text) {
  const usual = (words.dataset.usual ??= words.textContent ?? "");
  const copied = await (navigator.clipboard?.writeText(text) ?? Promise.reject()).then(
    () => true,
    () => false,
  );
  words.textContent = copied ? "Copied" : "Not allowed here";
  setTimeout(() => (words.textContent = usual), 1500);
  return copied;
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
