// @ts-check
/** The server of this page, and the token for it. */

import { Server } from "./client/server.js";
import { ofTab } from "./storage.js";

const ROOM_PROTOCOL = "parastream.room.v1";
const TOKEN_KEY = "parastream.token";
const LINES_AT_ONCE = 200;

/** @typedef {import("./client/server.js").Condition} Condition */

/** With the token for this tab: typed in, or taken from the page's address. */
export const server = new Server(new URL("../", import.meta.url), { token: ofTab.getItem(TOKEN_KEY) ?? "" });

/** @param {string} value empty to forget it */
export function rememberToken(value) {
  server.token = value;
  if (value) ofTab.setItem(TOKEN_KEY, value);
  else ofTab.removeItem(TOKEN_KEY);
}

/** Take `?token=` out of the address bar, where it could be read, shared or bookmarked by mistake. */
export function takeTokenFromAddress() {
  const address = new URL(location.href);
  const value = address.searchParams.get("token");
  if (value === null) return;
  rememberToken(value);
  address.searchParams.delete("token");
  history.replaceState(history.state, "", address);
}

/**
 * Open a WebSocket for watching a room.
 *
 * @param {string} room
 */
export function openRoom(room) {
  return server.open(`${roomPath(room)}?${new URLSearchParams({ room })}`, ROOM_PROTOCOL);
}

/**
 * As the server's condition, for readers, who may have a token that is good for rooms only.
 *
 * @param {string} room
 */
export function roomCondition(room) {
  return server.condition(`${roomPath(room)}?${new URLSearchParams({ room, limit: "1" })}`);
}

/**
 * Lines of a room from before a line. Rejects when they cannot be had.
 *
 * @param {string} room
 * @param {number} before
 * @returns {Promise<import("./room.js").RoomLines>}
 */
export async function roomHistory(room, before) {
  const query = new URLSearchParams({ room, before: String(before), limit: String(LINES_AT_ONCE) });
  const answer = await server.fetch(`${roomPath(room)}?${query}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

/** The room that this page is about: the end of its address. */
export function roomOfPage() {
  return decodeURIComponent(location.pathname.split("/").at(-1) ?? "").normalize("NFC");
}

/** @param {string} room @param {"" | "txt" | "srt" | "vtt" | "json"} suffix empty for the page */
export function liveUrl(room, suffix = "") {
  return server.url(`live/${encodeURIComponent(room)}${suffix && `.${suffix}`}`);
}

/** @param {string} room */
export function overlayUrl(room) {
  return server.url(`overlay/${encodeURIComponent(room)}`);
}

/** @param {string} room */
function roomPath(room) {
  return `v1/rooms/${encodeURIComponent(room)}`;
}
