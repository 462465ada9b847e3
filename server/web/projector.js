// @ts-check
/** Captions for a hall: the newest lines over the whole screen. */

import { addDialog } from "./dialogs.js";
import { element } from "./dom.js";
import { LinesView } from "./lines-view.js";
import { applyLook, remember, remembered, withQuery } from "./settings.js";
import { keepScreenOn } from "./wake-lock.js";

/** @typedef {import("./settings.js").Look} Look */

const KEPT_LINES = 30;
const IDLE_MILLISECONDS = 3000;
const SETTINGS = /** @type {const} */ (["size", "lines", "color", "background", "font", "drafts"]);

addDialog(`
  <dialog id="projector" class="projector idle" aria-label="Projector view">
    <div class="big" tabindex="0" role="region" aria-label="Newest captions">
      <div class="big-lines">
        <div role="log" aria-live="polite" aria-label="Finished sentences"><ol class="lines" id="projector-list"></ol></div>
        <div class="lines drafts" id="projector-drafts" aria-hidden="true"></div>
      </div>
    </div>
    <p class="projector-status" id="projector-status" role="status"></p>
    <form class="projector-settings" id="projector-settings" aria-label="Look of the captions">
      <label>Size <input type="range" name="size" min="24" max="240" step="2"></label>
      <label>Lines <input type="number" name="lines" min="1" max="20" inputmode="numeric"></label>
      <label>Text <input type="color" name="color"></label>
      <label>Background <input type="color" name="background"></label>
      <label>Font <select name="font"><option value="sans">Sans</option><option value="serif">Serif</option><option value="mono">Mono</option></select></label>
      <label>Drafts <select name="drafts"><option value="underlined">Underlined</option><option value="plain">Plain</option><option value="off">Off</option></select></label>
      <button type="reset" class="quiet">Reset</button>
      <button type="button" class="secondary" data-closes>Leave</button>
    </form>
  </dialog>
`);

/** Letters that suit the window, where nothing else is asked for. @returns {Look} */
function defaultLook() {
  const size = Math.round(Math.min(window.innerWidth / 16, window.innerHeight / 9));
  return {
    size: Math.max(size, 32),
    lines: 5,
    color: "#ffffff",
    background: "#000000",
    font: "sans",
    align: "left",
    fade: 0,
    drafts: "underlined",
  };
}

/** @param {import("./transcript.js").Transcript} transcript */
export function connectProjector(transcript) {
  const dialog = element("projector", HTMLDialogElement);
  const form = element("projector-settings", HTMLFormElement);
  const query = new URLSearchParams(location.search);
  new LinesView(
    transcript,
    { list: element("projector-list", HTMLElement), drafts: element("projector-drafts", HTMLElement) },
    { keep: KEPT_LINES },
  );

  const show = () => {
    const look = withQuery(withQuery(defaultLook(), new URLSearchParams(remembered("projector", ""))), query);
    applyLook(dialog, look);
    for (const name of SETTINGS) {
      const field = form.elements.namedItem(name);
      if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = String(look[name]);
    }
  };

  form.addEventListener("input", (event) => {
    const field = /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target);
    const kept = new URLSearchParams(remembered("projector", ""));
    kept.set(field.name, field.value);
    query.delete(field.name); // what is chosen by hand wins
    remember("projector", kept.toString());
    applyLook(dialog, withQuery(withQuery(defaultLook(), kept), query));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of SETTINGS) query.delete(name);
    remember("projector", null);
    show();
  });

  const open = () => {
    show();
    dialog.showModal();
    keepScreenOn("projector", true);
  };
  element("open-projector", HTMLButtonElement).addEventListener("click", () => {
    if (dialog.open) return dialog.close(); // by its key
    open();
    // Not the dialog itself, which browsers do not allow; without full screen the window is filled.
    document.documentElement.requestFullscreen?.().catch(() => {});
  });
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // again, in the meantime
    keepScreenOn("projector", false);
    if (document.fullscreenElement) void document.exitFullscreen();
  });
  // The first Escape is the browser's own, which leaves full screen.
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) return dialog.close();
    // What comes last is on top, which in WebKit is now the page.
    if (!dialog.open) return;
    dialog.close();
    dialog.showModal();
  });
  window.addEventListener("resize", () => dialog.open && show());
  hideWhenIdle(dialog);
  if (query.has("projector")) open();
}

/** The settings are there while the pointer moves or the keyboard is in them. @param {HTMLElement} dialog */
function hideWhenIdle(dialog) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const wake = () => {
    dialog.classList.remove("idle");
    clearTimeout(timer);
    timer = setTimeout(() => dialog.classList.add("idle"), IDLE_MILLISECONDS);
  };
  for (const type of ["pointermove", "pointerdown", "keydown", "focusin"]) dialog.addEventListener(type, wake);
  wake();
}
