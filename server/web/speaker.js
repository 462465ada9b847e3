// @ts-check
/** The speaker's page: ties microphone or file, session, transcript and controls together. */

import { Capture, canShareSound, listMicrophones } from "./client/capture.js";
import { Session } from "./client/session.js";
import { connectDialogs } from "./dialogs.js";
import { element } from "./dom.js";
import { FilePlayer } from "./file-player.js";
import { followNewest } from "./follow.js";
import { Kept } from "./kept.js";
import { LinesView } from "./lines-view.js";
import { connectProjector } from "./projector.js";
import { Saving } from "./saving.js";
import { server, takeTokenFromAddress } from "./server.js";
import { remember, remembered } from "./settings.js";
import { Sharing } from "./sharing.js";
import { connectShortcuts } from "./shortcuts.js";
import { NO_OUTPUT, explainSoundError } from "./sound-errors.js";
import { Status } from "./status.js";
import { clock } from "./subtitles.js";
import { connectThemeButton } from "./theme.js";
import { askForToken } from "./token.js";
import { Transcript } from "./transcript.js";
import { keepScreenOn } from "./wake-lock.js";

/** @typedef {"idle" | "starting" | "listening" | "paused" | "finishing"} Mode */

/** A microphone that gives nothing at all is muted somewhere. */
const SILENT_MILLISECONDS = 6000;
/** Browsers that play nothing, for want of an output, let nothing be heard either. */
const STANDSTILL_MILLISECONDS = 4000;
/** A file whose beginning cannot be read for so long will not be played. */
const LOAD_FILE_MILLISECONDS = 15_000;
const BYTES_PER_SAMPLE = 2;
const MOST_LANGUAGES = 3;
/** In the list of microphones: the sound of something that is shared. */
const TAB = "tab";

const condition = () => server.condition();
const capture = new Capture();
const transcript = new Transcript();
const status = new Status();
const sharing = new Sharing();
const saving = new Saving(transcript, () => sharing.room || "captions");
const kept = new Kept(transcript);
/** @type {Session | null} */
let session = null;
/** @type {Mode} */
let mode = "idle";
let playing = false; // a file, not the microphone
let refused = false; // by the browser, which plays nothing before somebody has pressed something
let recorded = 0; // seconds, in sessions that have ended
let heard = 0; // when there was any sound last, as performance.now()
let silent = false; // so long ago that something seems wrong
let clockRead = 0; // of the sound, in seconds
let clockMoved = 0; // when it went on last, as performance.now()

const mainButton = element("main", HTMLButtonElement);
const stopButton = element("stop", HTMLButtonElement);
const clearButton = element("clear", HTMLButtonElement);
const microphones = element("microphone", HTMLSelectElement);
const meter = element("meter", HTMLElement);
const player = element("player", HTMLAudioElement);
const scroller = element("scroller", HTMLElement);
const filePlayer = new FilePlayer(player);
const jumpToNewest = followNewest(
  scroller,
  element("content", HTMLElement),
  element("jump", HTMLButtonElement),
);

// --- starting, pausing, stopping ---------------------------------------------------------------------

async function startMicrophone() {
  setMode("starting");
  try {
    await openSound();
    await restored;
  } catch (error) {
    notify(explainSoundError(error, microphones.value === TAB));
    setMode("idle");
    return;
  }
  playing = false;
  void showMicrophones();
  begin();
}

/** Open what is chosen: a microphone, or the sound of a tab. */
function openSound() {
  return microphones.value === TAB ? capture.openTab() : capture.openMicrophone(microphones.value);
}

/**
 * Caption a file. A microphone that is live goes on until somebody has said that the file takes its place.
 *
 * @param {File} file
 */
async function startFile(file) {
  const url = URL.createObjectURL(file);
  try {
    await tryToPlay(url, file.name);
  } catch (error) {
    URL.revokeObjectURL(url);
    notify(/** @type {Error} */ (error).message);
    return;
  }
  const live = () => !playing && (mode === "starting" || mode === "listening" || mode === "paused");
  if (live() && !(await askToReplaceMicrophone(file.name))) {
    URL.revokeObjectURL(url);
    return;
  }
  if (mode === "starting" || mode === "finishing") {
    URL.revokeObjectURL(url);
    notify(`${file.name} has to wait: ${mode === "starting" ? "something else begins" : "the last sentence is being finished"}.`);
    return;
  }
  player.pause();
  if (mode === "listening") await pause();
  setMode("starting");
  try {
    await capture.openPlayer(player);
    await restored;
  } catch (error) {
    URL.revokeObjectURL(url);
    notify(explainSoundError(error));
    setMode(session ? "paused" : "idle");
    return;
  }
  filePlayer.load(url, session?.duration ?? recorded);
  element("player-name", HTMLElement).textContent = file.name;
  playing = true;
  begin();
  await play();
}

/** Let the file play. Browsers may want somebody to press something first. */
async function play() {
  try {
    await player.play();
  } catch (error) {
    if (!(error instanceof DOMException) || error.name === "AbortError") return; // paused in the meantime
    await pause();
    if (error.name !== "NotAllowedError") return notify(`The file cannot be played: ${error.message}`);
    refused = true;
    setMode("paused");
  }
}

/** Whether a file is to take the place of the microphone. @param {string} name of the file */
async function askToReplaceMicrophone(name) {
  const dialog = element("drop-dialog", HTMLDialogElement);
  if (dialog.open) return false;
  element("drop-name", HTMLElement).textContent = name;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "replace";
}

/**
 * Rejects, with the reason in words, when a file cannot be played. The player keeps what it has until that is known.
 *
 * @param {string} url @param {string} name
 */
function tryToPlay(url, name) {
  const trial = new Audio();
  trial.preload = "metadata"; // some browsers load nothing otherwise
  return new Promise((resolve, reject) => {
    trial.onloadedmetadata = resolve;
    trial.onerror = () => reject(new Error(`This browser cannot play ${name}.`));
    setTimeout(() => reject(new Error(`This browser does not get to play ${name}.`)), LOAD_FILE_MILLISECONDS);
    trial.src = url;
  });
}

/** A source is open: let it be heard. */
function begin() {
  hideNotice();
  refused = kept.found = false;
  heard = clockMoved = performance.now();
  if (!playing) session ??= newSession(); // a file has one once there is something to be captioned
  session?.retry();
  capture.activate();
  setMode("listening");
  scroller.scrollIntoView({ block: "nearest" }); // in small windows the controls are below it
}

async function pause() {
  setMode("paused");
  await capture.deactivate();
  if (playing) filePlayer.settle();
  showLevel(0);
  session?.flush();
}

function resume() {
  if (playing) void play(); // tells when it does
  else begin();
}

async function stop() {
  setMode("finishing");
  if (playing) player.pause();
  await capture.deactivate();
  capture.close();
  if (playing) filePlayer.settle();
  showLevel(0);
  if (session) session.stop();
  else setMode("idle");
}

function newSession() {
  const made = new Session(server, { rate: capture.rate, room: sharing.room, offset: recorded });
  // Never the same again, also among lines that were kept.
  const prefix = Math.random().toString(36).slice(2);
  const id = (/** @type {number} */ utterance) => `${prefix}.${utterance}`;
  made.on("state", () => onState(made));
  made.on("ready", showModel);
  made.on("partial", ({ utterance, start, stable, draft }) => {
    transcript.setDraft({ id: id(utterance), speaker: "", start, stable, draft });
  });
  made.on("final", ({ utterance, start, end, text, words }) => {
    transcript.add({ id: id(utterance), speaker: "", start, end, text, words });
  });
  made.on("forgotten", ({ utterances }) => transcript.forget(utterances.map(id)));
  made.on("lost", ({ start, end }) => {
    notify(`What was said from ${clock(start)} to ${clock(end)} is lost: there was no connection for too long.`);
  });
  return made;
}

/** @param {Session} changed */
function onState(changed) {
  if (changed !== session) return;
  const { name, reason } = changed.state;
  if (name === "unauthorized") void askForToken(condition).then((given) => given && changed.retry());
  if (name === "ended" || name === "failed") {
    session = null;
    recorded = changed.duration;
    transcript.forget(transcript.drafts.map(({ id }) => id));
    if (name === "failed") {
      notify(reason || "The server ended the session.");
      if (mode !== "finishing") {
        if (playing) player.pause();
        void capture.deactivate().then(() => capture.close());
      }
    }
    setMode("idle");
  }
  showStatus();
}

mainButton.addEventListener("click", () => {
  if (mode === "idle") void startMicrophone();
  else if (mode === "paused") resume();
  else if (mode === "listening" && playing) player.pause();
  else if (mode === "listening") void pause();
});
stopButton.addEventListener("click", () => {
  if (mode === "finishing") session?.abandon();
  else void stop();
});

// The player has controls of its own.
player.addEventListener("pause", () => {
  if (playing && mode === "listening" && !player.ended) void pause();
});
player.addEventListener("play", () => {
  if (mode === "finishing") player.pause();
  else if (playing && mode !== "listening") void capture.openPlayer(player).then(begin);
});
player.addEventListener("ended", () => {
  if (playing && mode === "listening") void stop();
});
capture.on("ended", () => {
  if (mode !== "listening" && mode !== "paused") return;
  const gone = microphones.value === TAB ? "The tab is not shared any more. Share it again" : "The microphone is gone. Connect it again";
  notify(`${gone} or choose another one, then start again.`);
  void stop();
});

// --- sound -------------------------------------------------------------------------------------------

capture.on("sound", ({ pcm, peak }) => {
  const time = playing ? filePlayer.take(pcm.byteLength / BYTES_PER_SAMPLE / capture.rate) : undefined;
  if (time !== null) {
    session ??= newSession();
    session.send(pcm, time);
  }
  showLevel(peak);
  if (peak > 0) heard = performance.now();
});
filePlayer.addEventListener("jump", () => session?.flush());
filePlayer.addEventListener("speed", () => notify("A file is captioned at its normal speed."));

setInterval(() => {
  const before = silent;
  silent = mode === "listening" && !playing && performance.now() - heard > SILENT_MILLISECONDS;
  if (silent && !before) notify("No sound from the microphone. Is it muted, or is the wrong one selected?");
  if (before && !silent) hideNotice();
  if (mode !== "listening" || capture.time !== clockRead) clockMoved = performance.now();
  else if (performance.now() - clockMoved > STANDSTILL_MILLISECONDS) {
    notify(NO_OUTPUT);
    clockMoved = Infinity; // it is said
  }
  clockRead = capture.time;
}, 1000);

/** @param {number} peak 0 to 1; shown in decibels, from -54 */
function showLevel(peak) {
  const level = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 54) : 0;
  meter.style.setProperty("--level", level.toFixed(3));
}

async function showMicrophones() {
  const devices = await listMicrophones();
  const wanted = remembered("microphone", "");
  const options = devices
    .filter(({ deviceId }) => deviceId !== "default" && deviceId !== "communications")
    .map(({ deviceId, label }, index) => new Option(label || `Microphone ${index + 1}`, deviceId));
  if (canShareSound()) options.push(new Option("Sound of a tab…", TAB));
  microphones.replaceChildren(new Option("System default", ""), ...options);
  microphones.value = options.some(({ value }) => value === wanted) ? wanted : "";
}
microphones.addEventListener("change", () => {
  remember("microphone", microphones.value || null);
  if (!playing && (mode === "listening" || mode === "paused")) {
    openSound().catch((error) => notify(explainSoundError(error, microphones.value === TAB)));
  }
});
navigator.mediaDevices?.addEventListener("devicechange", () => void showMicrophones());

// --- files -------------------------------------------------------------------------------------------

const fileField = element("file", HTMLInputElement);
const dropZone = element("drop", HTMLElement);
element("choose-file", HTMLButtonElement).addEventListener("click", () => fileField.click());
fileField.addEventListener("change", () => {
  if (fileField.files?.length) void startFile(fileField.files[0]);
  fileField.value = "";
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  dropZone.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) dropZone.hidden = true;
});
document.addEventListener("drop", (event) => {
  dropZone.hidden = true;
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  void startFile(event.dataTransfer.files[0]);
});

// --- what the page says ------------------------------------------------------------------------------

clearButton.addEventListener("click", () => {
  if (!saving.saved && !confirm("Clear the captions? They have not been saved.")) return;
  transcript.clear();
  recorded = 0;
});
window.addEventListener("beforeunload", (event) => {
  if (mode !== "idle" || !(saving.saved || kept.works)) event.preventDefault();
});
for (const type of ["drafts", "clear"]) transcript.addEventListener(type, showContent);

function showContent() {
  element("welcome", HTMLElement).hidden = !transcript.empty;
  element("welcome-idle", HTMLElement).hidden = mode !== "idle";
  element("welcome-lead", HTMLElement).textContent = mode === "idle" ? "Speak, and read along." : "Listening.";
  hide(clearButton, transcript.lines.length === 0 || mode !== "idle");
}

/** The keyboard's focus does not get lost with the button. @param {HTMLButtonElement} button @param {boolean} hidden */
function hide(button, hidden) {
  if (hidden && button === document.activeElement) mainButton.focus();
  button.hidden = hidden;
}

/** @param {Mode} next */
function setMode(next) {
  mode = next;
  const again = refused ? "Begin" : "Resume";
  const labels = { idle: "Start captions", starting: "Starting…", listening: "Pause", paused: again, finishing: "Finishing…" };
  const icons = { idle: "microphone", starting: "microphone", listening: "pause", paused: "resume", finishing: "microphone" };
  element("main-label", HTMLElement).textContent = labels[mode];
  document.getElementById("main-icon")?.setAttribute("href", `web/icons.svg#${icons[mode]}`);
  mainButton.ariaDisabled = String(mode === "starting" || mode === "finishing"); // it keeps the keyboard's focus
  hide(stopButton, mode === "idle" || mode === "starting");
  element("stop-label", HTMLElement).textContent = mode === "finishing" ? "Do not wait" : "Stop";
  element("choose-file", HTMLButtonElement).disabled = mode === "starting" || mode === "finishing";
  sharing.lock(mode !== "idle");
  element("player-box", HTMLElement).hidden = !playing || !player.src;
  keepScreenOn("listening", mode === "listening");
  showContent();
  showStatus();
}

function showStatus() {
  const state = session?.state;
  if (mode === "starting") status.show("Waiting for the microphone", "waiting");
  else if (mode === "idle") status.show(transcript.empty ? "Not started" : kept.found ? "Kept from before" : "Stopped", "idle");
  else if (mode === "paused" && refused) status.show("Press to begin", "waiting");
  else if (state?.name === "connecting" || state?.name === "reconnecting" || state?.name === "unauthorized") {
    status.showConnection(/** @type {import("./client/connection.js").ConnectionState} */ (state));
  } else if (mode === "paused") status.show("Paused", "idle");
  else if (mode === "finishing") status.show("Finishing the last sentence", "waiting");
  else status.show(playing ? "Captioning the file" : "Listening", "live");
}

/**
 * Say what listens, and to which languages.
 *
 * @param {import("./client/messages.js").Known} known
 */
function showModel({ model, languages, ears }) {
  if (!model) return;
  const models = ears?.length ? ears.map(({ name }) => name) : [model];
  const heard = languages ? spoken(languages) : "";
  const shown = element("status-model", HTMLElement);
  shown.textContent = shown.title = [heard, `model ${models.join(" + ")}`].filter(Boolean).join(", ");
  const welcome = element("welcome-model", HTMLElement);
  const [first, ...others] = models;
  const who = others.length ? `The models ${first} and ${others.join(", ")} listen` : `The model ${first} listens`;
  welcome.textContent = heard ? `${who}, for ${heard}.` : `${who}.`;
  welcome.hidden = false;
  const list = element("welcome-ears", HTMLElement);
  list.replaceChildren(...(ears ?? []).map(describe));
  element("welcome-details", HTMLElement).hidden = !list.children.length;
}

/** @param {import("./client/messages.js").Ear} ear */
function describe({ name, partials, finals, languages, figures, licence }) {
  const hears = [partials && "text while you speak", finals && "finished sentences"].filter(Boolean).join(", ");
  const item = document.createElement("li");
  item.textContent = `${name}: ${[hears, spoken(languages), figures, licence].filter(Boolean).join("; ")}`;
  return item;
}

/** @param {string[]} languages */
function spoken(languages) {
  if (languages.length > MOST_LANGUAGES) return `${languages.length} languages`;
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  return languages.map((language) => names.of(language)).join(", ");
}

/** @param {string} text */
function notify(text) {
  element("notice-text", HTMLElement).textContent = text;
  element("notice", HTMLElement).hidden = false;
}

function hideNotice() {
  element("notice", HTMLElement).hidden = true;
}
element("notice-close", HTMLButtonElement).addEventListener("click", hideNotice);

// --- now ---------------------------------------------------------------------------------------------

takeTokenFromAddress();
new LinesView(transcript, { list: element("lines", HTMLElement), drafts: element("drafts", HTMLElement) });
connectShortcuts([
  ["Space", "Start, pause, go on"],
  ["R", "Caption room"],
  ["D", "Copy or download"],
]);
connectDialogs();
connectThemeButton(element("theme", HTMLButtonElement));
connectProjector(transcript);
setMode("idle");
jumpToNewest();
void showMicrophones();
const restored = kept.open().then(() => {
  recorded = Math.max(recorded, ...transcript.lines.map(({ end }) => end));
  showStatus();
});
if (!window.isSecureContext) notify(explainSoundError(null));
window.addEventListener("online", () => session?.retry());
document.addEventListener("visibilitychange", () => document.hidden || session?.retry());
if ((await condition()) === "unauthorized") await askForToken(condition);
showModel(await server.info());
