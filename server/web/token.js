// @ts-check
/** Asking for the server's token. */

import { addDialog } from "./dialogs.js";
import { element } from "./dom.js";
import { rememberToken, server } from "./server.js";

addDialog(`
  <dialog id="token-dialog" class="dialog" aria-labelledby="token-title">
    <form id="token-form" method="dialog">
      <h2 id="token-title">This server asks for a token</h2>
      <p id="token-wrong" class="wrong" role="alert" hidden>The server does not know that token.</p>
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" required aria-describedby="token-hint">
      <p class="hint" id="token-hint">Whoever runs the server has it. This tab remembers it until it is closed.</p>
      <div class="dialog-end">
        <button type="button" class="quiet" data-closes>Not now</button>
        <button type="submit" class="secondary strong" value="given">Continue</button>
      </div>
    </form>
  </dialog>
`);

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
