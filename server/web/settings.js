// @ts-check
/** What this browser remembers, and what the page's address asks for. */

import { lasting } from "./storage.js";

const PREFIX = "parastream.";

/** @param {string} name @param {string} fallback */
export function remembered(name, fallback) {
  return lasting.getItem(PREFIX + name) ?? fallback;
}

/** @param {string} name @param {string | null} value null to forget it */
export function remember(name, value) {
  if (value === null) lasting.removeItem(PREFIX + name);
  else lasting.setItem(PREFIX + name, value);
}

/**
 * How big captions look.
 *
 * @typedef {object} Look
 * @property {number} size of the letters, in CSS pixels
 * @property {number} lines shown at a time
 * @property {string} color of the text, as `#rrggbb`
 * @property {string} background as `#rrggbb`, or `transparent`
 * @property {keyof typeof FONTS} font
 * @property {"left" | "center" | "right"} align
 * @property {number} fade seconds after which a line disappears; 0 for never
 * @property {"off" | "plain" | "underlined"} drafts how what may still change is told from what will not; off: not shown
 */

export const FONTS = {
  sans: 'Inter, system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif',
  serif: 'Charter, "Iowan Old Style", Georgia, "Noto Serif", serif',
  mono: 'ui-monospace, "SF Mono", Consolas, "Noto Sans Mono", monospace',
};

const SIZE_RANGE = /** @type {const} */ ([12, 400]);
const LINES_RANGE = /** @type {const} */ ([1, 20]);
const FADE_RANGE = /** @type {const} */ ([0, 3600]);

/**
 * `look` with what the query parameters of the page's address ask for; what they get wrong is left as it is.
 *
 * @param {Look} look
 * @param {URLSearchParams} query
 * @returns {Look}
 */
export function withQuery(look, query) {
  const align = query.get("align") ?? "";
  const font = query.get("font") ?? "";
  const drafts = query.get("drafts") ?? "";
  return {
    size: number(query.get("size"), SIZE_RANGE, look.size),
    lines: Math.round(number(query.get("lines"), LINES_RANGE, look.lines)),
    color: color(query.get("color"), look.color),
    background: color(query.get("background"), look.background),
    font: Object.hasOwn(FONTS, font) ? /** @type {Look["font"]} */ (font) : look.font,
    align: align === "left" || align === "center" || align === "right" ? align : look.align,
    fade: number(query.get("fade"), FADE_RANGE, look.fade),
    drafts: drafts === "off" || drafts === "plain" || drafts === "underlined" ? drafts : look.drafts,
  };
}

/**
 * Set the custom properties that big.css and overlay.css read.
 *
 * @param {HTMLElement} element
 * @param {Look} look
 */
export function applyLook(element, { size, lines, color, background, font, align, drafts }) {
  const { style } = element;
  style.setProperty("--caption-size", `${size}px`);
  style.setProperty("--caption-lines", String(lines));
  style.setProperty("--caption-color", color);
  style.setProperty("--caption-background", background);
  style.setProperty("--caption-font", FONTS[font]);
  style.setProperty("--caption-align", align);
  element.dataset.drafts = drafts;
}

/** @param {string | null} text @param {readonly [number, number]} range @param {number} fallback */
function number(text, [least, most], fallback) {
  const value = text ? Number(text) : NaN;
  return Number.isFinite(value) ? Math.min(Math.max(value, least), most) : fallback;
}

/** A name or hexadecimal digits, with or without `#`. @param {string | null} text @param {string} fallback */
function color(text, fallback) {
  if (!text) return fallback;
  for (const value of [`#${text}`, text]) if (CSS.supports("color", value)) return value;
  return fallback;
}
