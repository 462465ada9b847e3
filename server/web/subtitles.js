// @ts-check
/**
 * Transcripts as files: text, SubRip, WebVTT and JSON.
 *
 * Cues follow what broadcasters publish as their rules (docs/subtitles.md names the sources): at most two lines of 42
 * columns, cut where a sentence ends, else at a comma, else at the longest pause; shown for as long as it takes to read
 * them where there is room, for seven seconds at most.
 */

/** @typedef {import("./transcript.js").Line} Line */
/** @typedef {{text: string, start: number, end: number}} Piece a word with the marks and spaces up to the next one */
/** @typedef {{start: number, end: number, lines: string[]}} Cue */
/** @typedef {"txt" | "srt" | "vtt" | "json"} Format */

const COLUMNS = 42;
const LINES = 2;
const LONGEST_SECONDS = 7;
/** A cue stays this long when the next one leaves room for it. */
const SHORTEST_SECONDS = 5 / 6;
const READ_PER_SECOND = 17; // characters
/** How long a cue may stay after its speech has ended. */
const LINGER_SECONDS = 1.5;
/** Between a cue and the next. */
const GAP_SECONDS = 1 / 12;
/** Shorter pauses are filled, up to the gap. */
const SHORTEST_PAUSE_SECONDS = 0.5;
/** Columns of a full-width character: 16 of them fill a line. */
const WIDE_COLUMNS = 42 / 16;
/** As many characters take as long to read as a full-width one. */
const WIDE_READING = 2;
/** A cut nearer to an edge than this share of the text would leave a cue of a word or two. */
const LEAST_SHARE = 0.25;

const SENTENCE_END = /[.?!。？！…]\s*$/;
const PHRASE_END = /[,;:，、；：]\s*$/;
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u;

/** @type {Record<Format, string>} */
export const MIME_TYPES = {
  txt: "text/plain;charset=utf-8",
  srt: "application/x-subrip;charset=utf-8",
  vtt: "text/vtt;charset=utf-8",
  json: "application/json",
};

/** @param {Line[]} lines @param {Format} format */
export function render(lines, format) {
  switch (format) {
    case "txt":
      return lines.map(({ text }) => `${text}\n`).join("");
    case "srt":
      return cues(lines)
        .map((cue, index) => `${index + 1}\n${timing(cue, ",")}\n${cue.lines.join("\n")}\n`)
        .join("\n");
    case "vtt":
      return ["WEBVTT\n", ...cues(lines).map((cue) => `${timing(cue, ".")}\n${cue.lines.map(escape).join("\n")}\n`)].join("\n");
    case "json": {
      const utterances = lines.map(({ start, end, text, words }) => ({
        text,
        start: rounded(start),
        end: rounded(end),
        words: words.map((word) => ({ ...word, start: rounded(word.start), end: rounded(word.end) })),
      }));
      return `${JSON.stringify({ text: lines.reduce(joinTexts, ""), utterances }, null, 1)}\n`;
    }
  }
}

/** A space between them, but none next to a full-width character. @param {string} before @param {Line} line */
function joinTexts(before, { text }) {
  const apart = before && !WIDE.test(before.slice(-1)) && !WIDE.test(text[0]);
  return before + (apart ? " " : "") + text;
}

/**
 * The cues for lines, in order and never overlapping.
 *
 * @param {Line[]} lines
 * @returns {Cue[]}
 */
export function cues(lines) {
  const groups = lines.filter(({ text }) => text.trim()).flatMap((line) => split(pieces(line)));
  return groups.map((group, index) => {
    const start = group[0].start;
    const spokenUntil = Math.max(...group.map((piece) => piece.end));
    const shown = wrap(group);
    const reading = start + Math.min(measure(shown.join(""), WIDE_READING) / READ_PER_SECOND, LONGEST_SECONDS);
    let end = Math.max(spokenUntil, Math.min(reading, spokenUntil + LINGER_SECONDS), start + SHORTEST_SECONDS);
    const next = groups[index + 1]?.[0].start ?? Infinity;
    if (next - end < SHORTEST_PAUSE_SECONDS) {
      const last = start + Math.max(next - start - GAP_SECONDS, (next - start) / 2, 0.001);
      end = Math.min(last, Math.max(end, start + LONGEST_SECONDS));
    }
    return { start, end, lines: shown };
  });
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

/**
 * Cuts the line's text in front of each word, so that marks and spaces stay as they are.
 *
 * @param {Line} line
 * @returns {Piece[]}
 */
function pieces(line) {
  const text = line.text.trim();
  /** @type {{at: number, start: number, end: number}[]} */
  const found = [];
  let position = 0;
  for (const word of line.words) {
    const at = text.indexOf(word.text, position);
    if (at < 0) continue; // it belongs to what the word before it shows
    found.push({ at, start: word.start, end: word.end });
    position = at + word.text.length;
  }
  if (found.length === 0) return [{ text, start: line.start, end: line.end }];
  return found.map(({ at, start, end }, index) => ({
    text: text.slice(index === 0 ? 0 : at, found[index + 1]?.at),
    start,
    end,
  }));
}

/** @param {Piece[]} all @returns {Piece[][]} */
function split(all) {
  if (all.length === 1 || fits(all)) return [all];
  const cut = bestCut(all);
  return [...split(all.slice(0, cut)), ...split(all.slice(cut))];
}

/** @param {Piece[]} all */
function fits(all) {
  if (all[all.length - 1].end - all[0].start > LONGEST_SECONDS) return false;
  const lines = wrap(all);
  return lines.length <= LINES && lines.every((line) => width(line) <= COLUMNS);
}

/** Index of the piece that begins the second part. @param {Piece[]} all */
function bestCut(all) {
  const total = width(joined(all)) || 1;
  const candidates = all.slice(1).map((piece, index) => {
    const before = width(joined(all.slice(0, index + 1)));
    const rank = SENTENCE_END.test(all[index].text) ? 2 : PHRASE_END.test(all[index].text) ? 1 : 0;
    return { cut: index + 1, rank, pause: piece.start - all[index].end, balance: Math.min(before, total - before) / total };
  });
  const balanced = candidates.filter(({ balance }) => balance >= LEAST_SHARE);
  const best = (balanced.length ? balanced : candidates).reduce((one, other) => {
    const better = other.rank - one.rank || Math.round(1000 * (other.pause - one.pause)) || other.balance - one.balance;
    return better > 0 ? other : one;
  });
  return best.cut;
}

/** As few lines as hold the pieces; two are made about equally long. @param {Piece[]} all */
function wrap(all) {
  const whole = joined(all).trim();
  if (width(whole) <= COLUMNS || all.length === 1) return [whole];
  const lines = [""];
  for (const { text } of all) {
    const line = lines[lines.length - 1];
    if (line && width((line + text).trim()) > COLUMNS) lines.push(text);
    else lines[lines.length - 1] = line + text;
  }
  if (lines.length !== 2) return lines.map((line) => line.trim());
  const halves = all.slice(1).map((_, index) => [
    joined(all.slice(0, index + 1)).trim(),
    joined(all.slice(index + 1)).trim(),
  ]);
  const longest = (/** @type {string[]} */ half) => Math.max(...half.map(width));
  return halves.reduce((one, other) => (longest(other) < longest(one) ? other : one));
}

/** @param {Piece[]} all */
function joined(all) {
  return all.map(({ text }) => text).join("");
}

/** Columns that a text takes. @param {string} text */
function width(text) {
  return measure(text, WIDE_COLUMNS);
}

/** Characters, of which a full-width one counts for several. @param {string} text @param {number} wide */
function measure(text, wide) {
  let sum = 0;
  for (const character of text) sum += WIDE.test(character) ? wide : 1;
  return sum;
}

/** @param {Cue} cue @param {"," | "."} point */
function timing({ start, end }, point) {
  return `${timestamp(start, point)} --> ${timestamp(end, point)}`;
}

/** @param {number} seconds @param {"," | "."} point */
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

/** To milliseconds. @param {number} seconds */
function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
