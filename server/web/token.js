// @ts-check
/** Asking for the server's token. */

import { element } from "./dom.js";
import { rememberToken, server } from "./server.js";

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * Resolves once there is a token that the server takes, to true, or nobody wants to give one, to false.
 *
 * @param {() => Promise<import("./server.js").Condition>} condition
 */
export function askForToken(condition) {
  asking ??= ask(condition).finally(() => (asking = null));
  return asking;
}

/** @param {() => Promise<import("./server.js").Condition>} condition */
async function ask(condition) {
  const dialog = element("token-dialog", HTMLDialogElement);
  const field = element("token", HTMLInputElement);
  const wrong = element("token-wrong", HTMLElement);
  wrong.hidden = !server.token;
  do {
    field.value = dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (!dialog.returnValue) return false;
    rememberToken(field.value.trim());
    wrong.hidden = !server.token;
  } while ((await condition()) === "unauthorized");
  return true;
}
