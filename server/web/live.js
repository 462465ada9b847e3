// @ts-check
/** The readers' page of a caption room. */

import { connectDialogs, download } from "./dialogs.js";
import { element } from "./dom.js";
import { followNewest, keepPlace } from "./follow.js";
import { LinesView } from "./lines-view.js";
import { connectProjector } from "./projector.js";
import { Room } from "./room.js";
import { liveUrl, openRoom, roomCondition, roomHistory, roomOfPage, server, takeTokenFromAddress } from "./server.js";
import { connectShortcuts } from "./shortcuts.js";
import { Status } from "./status.js";
import { connectThemeButton } from "./theme.js";
import { askForToken } from "./token.js";
import { Transcript } from "./transcript.js";
import { keepScreenOn } from "./wake-lock.js";

/** What was said before the page was opened is there to be read, but not read out. */
const ANNOUNCED_AFTER_MILLISECONDS = 1000;

/** Earlier lines are fetched before the reader gets to them. */
const AHEAD_PIXELS = 600;

const name = roomOfPage();
const transcript = new Transcript();
const status = new Status();

takeTokenFromAddress();
document.title = `${name} · live captions`;
element("room-name", HTMLElement).textContent = name;
const jumpToNewest = followNewest(
  element("scroller", HTMLElement),
  element("content", HTMLElement),
  element("jump", HTMLButtonElement),
);
new LinesView(transcript, { list: element("lines", HTMLElement), drafts: element("drafts", HTMLElement) });
connectShortcuts([["D", "Download the transcript"]]);
connectDialogs();
connectThemeButton(element("theme", HTMLButtonElement));
connectProjector(transcript);
connectDownloads();

const condition = () => roomCondition(name);
const room = new Room(() => openRoom(name), condition, transcript, (before) => roomHistory(name, before));
room.addEventListener("state", show);
connectHistory();
transcript.addEventListener("drafts", showContent);
window.addEventListener("online", () => room.retry());
document.addEventListener("visibilitychange", () => document.hidden || room.retry());
show();
jumpToNewest();

function show() {
  const { state, live } = room;
  keepScreenOn("reading", live);
  if (state.name === "unauthorized") void askForToken(condition).then((given) => given && room.retry());
  if (state.name === "connected") announceLinesSoon();
  if (state.name !== "connected") status.showConnection(state);
  else if (live) status.show("Live", "live");
  else status.show(transcript.empty ? "Waiting for a speaker" : "Nobody speaks at the moment", "idle");
  showContent();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let announcing;
function announceLinesSoon() {
  clearTimeout(announcing);
  announcing = setTimeout(() => (element("log", HTMLElement).ariaLive = "polite"), ANNOUNCED_AFTER_MILLISECONDS);
}

/** Lines from before those that the server tells at once come as the reader scrolls up. */
function connectHistory() {
  const button = element("earlier", HTMLButtonElement);
  const scroller = element("scroller", HTMLElement);
  const load = () => {
    const distance = scroller.getBoundingClientRect().top - button.getBoundingClientRect().bottom;
    if (!button.hidden && distance < AHEAD_PIXELS) void room.loadEarlier();
  };
  new IntersectionObserver(load, { root: scroller, rootMargin: `${AHEAD_PIXELS}px 0px 0px` }).observe(button);
  button.addEventListener("click", () => void room.loadEarlier());
  room.addEventListener("history", () => {
    button.hidden = room.earlier === 0;
    button.textContent = room.earlier === 1 ? "1 earlier line" : `${room.earlier} earlier lines`;
  });
  room.addEventListener("older", (event) => {
    element("log", HTMLElement).ariaLive = "off"; // they are no news
    announceLinesSoon();
    keepPlace(scroller, element("lines", HTMLElement), /** @type {CustomEvent} */ (event).detail);
    requestAnimationFrame(load); // the reader may be at the beginning still
  });
}

function showContent() {
  const none = transcript.lines.length === 0;
  element("save-empty", HTMLElement).hidden = !none;
  element("save-choices", HTMLElement).hidden = none;
  element("welcome", HTMLElement).hidden = !transcript.empty;
  const lead = room.state.name !== "connected" ? "Connecting." : room.live ? "Listening." : "Nobody has spoken yet.";
  element("welcome-lead", HTMLElement).textContent = lead;
}

/** The server has all of the transcript, from before this page was opened too. */
function connectDownloads() {
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("a[data-format]"))) {
    const suffix = /** @type {"txt" | "srt" | "vtt" | "json"} */ (link.dataset.format);
    const file = `${name}.${suffix}`;
    link.href = liveUrl(name, suffix).href;
    link.download = file;
    link.addEventListener("click", (event) => {
      if (!server.token) return;
      event.preventDefault(); // a link cannot carry the token but in its address
      void server.fetch(link.href).then(async (response) => {
        if (response.ok) download(file, await response.blob());
      });
    });
  }
}
