// @ts-check
/** The dialog that names a caption room and shows where it can be read. */

import { copy } from "./dialogs.js";
import { element } from "./dom.js";
import { mendWhileTyping, roomName } from "./room-names.js";
import { liveUrl, overlayUrl, server } from "./server.js";
import { remember, remembered } from "./settings.js";

/** Names by which a computer is known to itself only. */
const LOOPBACK = /^(localhost|.*\.localhost|127\.[\d.]+|\[::1\])$/;

export class Sharing {
  #field = element("room", HTMLInputElement);

  constructor() {
    this.#field.value = roomName(new URLSearchParams(location.search).get("room") ?? remembered("room", ""));
    mendWhileTyping(this.#field, () => {
      this.#show();
      remember("room", this.room || null);
    });
    for (const name of ["room", "overlay"]) {
      const button = element(`copy-${name}`, HTMLButtonElement);
      const link = element(`${name}-link`, HTMLAnchorElement);
      button.addEventListener("click", () => void copy(/** @type {HTMLElement} */ (button.firstElementChild), link.href));
    }
    this.#show();
  }

  /** Name of the room, empty for none. */
  get room() {
    return this.#field.value;
  }

  /** The name stays as it is during a session. @param {boolean} locked */
  lock(locked) {
    this.#field.disabled = locked;
    element("room-hint", HTMLElement).textContent = locked
      ? "Stop the captions to change the name."
      : "Letters and digits of any script, - and _. Leave it empty to caption for yourself only.";
  }

  #show() {
    const name = this.room;
    element("room-links", HTMLElement).hidden = !name;
    element("status-room", HTMLElement).textContent = name && `room ${name}`;
    element("room-loopback", HTMLElement).hidden = !LOOPBACK.test(location.hostname);
    element("room-token", HTMLElement).hidden = !server.token;
    if (!name) return;
    for (const [id, url] of /** @type {const} */ ([
      ["room-link", liveUrl(name)],
      ["overlay-link", overlayUrl(name)],
    ])) {
      const link = element(id, HTMLAnchorElement);
      link.href = url.href;
      link.textContent = decodeURI(url.href); // the name as it is written
    }
  }
}
