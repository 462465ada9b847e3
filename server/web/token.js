// @ts-check
/** Asking for the server's token. */

import { element } from "./dom.js";
import { condition, rememberToken, token } from "./server.js";

/** @type {Promise<void> | null} */
let asking = null;

/** Resolves once there is a token that the server takes. */
export function askForToken() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

async function ask() {
  const dialog = element("token-dialog", HTMLDialogElement);
  const field = element("token", HTMLInputElement);
  const wrong = element("token-wrong", HTMLElement);
  wrong.hidden = !token();
  do {
    field.value = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    rememberToken(field.value.trim());
    wrong.hidden = !token();
  } while ((await condition()) === "unauthorized");
}
