// @ts-check
/** Where the server is, how to show it the token, and what it says about itself. */

import { ofTab } from "./storage.js";

const ROOT = new URL("../", import.meta.url);
const PROTOCOL = "parastream.v1";
const ROOM_PROTOCOL = "parastream.room.v1";
const TOKEN_PROTOCOL = "parastream.token.";
const TOKEN_KEY = "parastream.token";
const LINES_AT_ONCE = 200;

/** What HTTP allows in the name of a subprotocol. */
const SUBPROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** @typedef {"ready" | "loading" | "unauthorized" | "unreachable"} Condition */

/** The token for this tab: typed in, or taken from the page's address. */
export function token() {
  return ofTab.getItem(TOKEN_KEY) ?? "";
}

/** @param {string} value empty to forget it */
export function rememberToken(value) {
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
 * Open a WebSocket for a session. A balancer between several servers looks at the query.
 *
 * @param {string} room empty for none
 * @param {string} instance the server that the session is on; empty for any
 */
export function openSession(room, instance) {
  const query = new URLSearchParams({ ...(room && { room }), ...(instance && { on: instance }) });
  return openSocket(`v1/stream?${query}`, PROTOCOL);
}

/**
 * Open a WebSocket for watching a room.
 *
 * @param {string} room
 */
export function openRoom(room) {
  return openSocket(`${roomPath(room)}?${new URLSearchParams({ room })}`, ROOM_PROTOCOL);
}

/**
 * As `condition`, for readers, who may have a token that is good for rooms only.
 *
 * @param {string} room
 */
export function roomCondition(room) {
  return condition(`${roomPath(room)}?${new URLSearchParams({ room, limit: "1" })}`);
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
  const answer = await fetchWithToken(new URL(`${roomPath(room)}?${query}`, ROOT));
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

/**
 * A model that listens: to speech while it lasts, to whole utterances, or to both.
 *
 * @typedef {{name: string, partials: boolean, finals: boolean, languages: string[], figures: string, licence: string}} Ear
 */

/**
 * What the server hears with, as far as it is known.
 *
 * @typedef {{model: string | null, languages: string[] | null, ears?: Ear[] | null}} Known
 */

/**
 * Ask what the server hears with.
 *
 * @returns {Promise<Known>}
 */
export async function info() {
  try {
    const answer = await fetchWithToken(new URL("v1/info", ROOT));
    return answer.ok ? await answer.json() : { model: null, languages: null };
  } catch {
    return { model: null, languages: null };
  }
}

/** The room that this page is about: the end of its address. */
export function roomOfPage() {
  return decodeURIComponent(location.pathname.split("/").at(-1) ?? "").normalize("NFC");
}

/** @param {string} room @param {"" | "txt" | "srt" | "vtt" | "json"} suffix empty for the page */
export function liveUrl(room, suffix = "") {
  return new URL(`live/${encodeURIComponent(room)}${suffix && `.${suffix}`}`, ROOT);
}

/** @param {string} room */
export function overlayUrl(room) {
  return new URL(`overlay/${encodeURIComponent(room)}`, ROOT);
}

/**
 * Fetch with the token.
 *
 * @param {URL} url
 */
export function fetchWithToken(url) {
  const value = token();
  return fetch(url, { headers: value ? { Authorization: `Bearer ${value}` } : {} });
}

/**
 * Find out why a connection cannot be had: a browser does not say what a refused WebSocket was answered.
 *
 * @param {string} path of something that asks for the same token
 * @returns {Promise<Condition>}
 */
export async function condition(path = "v1/info") {
  try {
    const answer = await fetchWithToken(new URL(path, ROOT));
    if (answer.status === 401) return "unauthorized";
    const ready = await fetch(new URL("readyz", ROOT));
    return ready.ok ? "ready" : "loading";
  } catch {
    return "unreachable";
  }
}

/** @param {string} room */
function roomPath(room) {
  return `v1/rooms/${encodeURIComponent(room)}`;
}

/** @param {string} path @param {string} protocol */
function openSocket(path, protocol) {
  const url = new URL(path, ROOT);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const protocols = [protocol];
  const value = token();
  if (SUBPROTOCOL.test(value)) protocols.push(TOKEN_PROTOCOL + value);
  else if (value) url.searchParams.set("token", value);
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  return socket;
}
