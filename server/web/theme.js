// @ts-check
/** Light or dark: as the system has it, or the other one. */

import { remember, remembered } from "./settings.js";

/** @typedef {"auto" | "light" | "dark"} Theme */
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** Apply what is remembered. */
export function applyTheme() {
  document.documentElement.dataset.theme = current();
}

/** @param {HTMLButtonElement} button each press of it changes what is seen */
export function connectThemeButton(button) {
  const show = () => {
    const label = `Colours: ${shown()}${current() === "auto" ? ", as the system" : ""}`;
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  button.addEventListener("click", () => {
    const other = shown() === "dark" ? "light" : "dark";
    remember("theme", other === ofSystem() ? null : other);
    applyTheme();
    show();
  });
  DARK.addEventListener("change", show);
  show();
}

/** @returns {Theme} */
function current() {
  const name = remembered("theme", "auto");
  return name === "light" || name === "dark" ? name : "auto";
}

function shown() {
  const theme = current();
  return theme === "auto" ? ofSystem() : theme;
}

function ofSystem() {
  return DARK.matches ? "dark" : "light";
}

applyTheme();
