// @ts-check
/** Asks for the name of a room: the page for addresses that name none, or what cannot be one. */

import { element } from "./dom.js";
import { mendWhileTyping, roomName } from "./room-names.js";
import { liveUrl, overlayUrl } from "./server.js";

const field = element("room", HTMLInputElement);
const wrong = element("rooms-wrong", HTMLElement);
const given = new URLSearchParams(location.search).get("name") ?? "";
if (given) {
  wrong.textContent = `There is no room “${given.slice(0, 100)}”: names have no other characters than those below.`;
  wrong.hidden = false;
}
field.value = roomName(given);
mendWhileTyping(field, () => (wrong.hidden = true));
element("rooms-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const url = location.pathname.endsWith("/overlay") ? overlayUrl(field.value) : liveUrl(field.value);
  location.assign(url);
});
field.focus();
