// @ts-check
/** Transcripts as files: text, SubRip, WebVTT and JSON. The first three are those that the server writes. */

import { cues } from "./cues.js";
import { collapseSpace, join, trim } from "./text.js";

/** @typedef {import("./transcript.js").Line} Line */
/** @typedef {import("./cues.js").Cue} Cue */
/** @typedef {"txt" | "srt" | "vtt" | "json"} Format */

/** @type {Record<Format, string>} */
export const MIME_TYPES = {
  txt: "text/plain;charset=utf-8",
  srt: "application/x-subrip;charset=utf-8",
  vtt: "text/vtt;charset=utf-8",
  json: "application/json",
};

/** @param {Line[]} lines by start time @param {Format} format */
export function render(lines, format) {
  switch (format) {
    case "txt":
      return lines.map(textLine).join("");
    case "srt":
      return cues(lines).map(srtEntry).join("");
    case "vtt":
      return `WEBVTT\n\n${cues(lines).map(vttEntry).join("")}`;
    case "json": {
      const utterances = lines.map(({ speaker, text, start, end, words }) => ({
        ...(speaker && { speaker: collapseSpace(speaker) }),
        text,
        start,
        end,
        words,
      }));
      return `${JSON.stringify({ text: join(lines.map(({ text }) => text)), utterances }, null, 1)}\n`;
    }
  }
}

/**
 * Seconds as `1:02:03` or `2:03`.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}

/** Nothing if nothing was said. @param {Line} line */
function textLine({ speaker, text }) {
  const said = trim(text);
  return said && `${prefix(collapseSpace(speaker))}${said}\n`;
}

/** @param {Cue} cue @param {number} index */
function srtEntry(cue, index) {
  return `${index + 1}\n${timing(cue, ",")}\n${prefix(cue.speaker)}${cue.lines.join("\n")}\n\n`;
}

/** @param {Cue} cue */
function vttEntry(cue) {
  const voice = cue.speaker && `<v ${escape(cue.speaker)}>`;
  return `${timing(cue, ".")}\n${voice}${escape(cue.lines.join("\n"))}\n\n`;
}

/** What names the speaker at the beginning of a line. @param {string} speaker */
function prefix(speaker) {
  return speaker && `${speaker}: `;
}

/** @param {Cue} cue @param {"," | "."} point */
function timing({ start, end }, point) {
  return `${timestamp(start, point)} --> ${timestamp(end, point)}`;
}

/** @param {number} seconds a whole number of milliseconds @param {"," | "."} point */
function timestamp(seconds, point) {
  const milliseconds = Math.round(seconds * 1000);
  const parts = [3_600_000, 60_000, 1000].map((unit, index) => {
    const most = index === 0 ? Infinity : 60;
    return String(Math.floor(milliseconds / unit) % most).padStart(2, "0");
  });
  return `${parts.join(":")}${point}${String(milliseconds % 1000).padStart(3, "0")}`;
}

/** Marks that WebVTT would read as markup. @param {string} text */
function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
