// @ts-check
/** A room's newest captions on nothing, to be laid over a picture. The page's address says how they look. */

import { element } from "./dom.js";
import { LinesView } from "./lines-view.js";
import { Room } from "./room.js";
import { openRoom, roomCondition, roomOfPage, takeTokenFromAddress } from "./server.js";
import { applyLook, withQuery } from "./settings.js";
import { Transcript } from "./transcript.js";

const KEPT_LINES = 20;
/**
 * Centred lines would move with each word that is added.
 *
 * @type {import("./settings.js").Look}
 */
const LOOK = {
  size: 48,
  lines: 2,
  color: "#ffffff",
  background: "transparent",
  font: "sans",
  align: "left",
  fade: 0,
  drafts: "plain",
};

const look = withQuery(LOOK, new URLSearchParams(location.search));
const name = roomOfPage();
takeTokenFromAddress();
const captions = element("captions", HTMLElement);
applyLook(captions, look);

const transcript = new Transcript();
new LinesView(
  transcript,
  { list: element("lines", HTMLElement), drafts: element("drafts", HTMLElement) },
  { keep: KEPT_LINES, fadeSeconds: look.fade },
);
const room = new Room(() => openRoom(name), () => roomCondition(name), transcript);
room.addEventListener("state", () => {
  // Over a picture there is no place for words about the connection, but for what stays wrong until somebody acts.
  element("problem", HTMLElement).hidden = room.state.name !== "unauthorized";
});
