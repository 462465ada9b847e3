// @ts-check
/**
 * Subtitles: utterances cut into cues, and cues into lines.
 *
 * The same as server/transcripts/cues.py, operation by operation, so that the page's files are those of the server;
 * tests/data/cues.json has cases that both must pass exactly. docs/subtitles.md has the rules and their sources.
 */

import { collapseSpace, isWide, trimEnd } from "./text.js";

/**
 * A finished utterance. Times in seconds.
 *
 * @typedef {object} Utterance
 * @property {string} text
 * @property {number} start
 * @property {number} end
 * @property {{text: string, start: number, end: number}[]} words
 * @property {string} speaker empty where lines have no names
 */
/** @typedef {{start: number, end: number, lines: string[], speaker: string}} Cue */
/** @typedef {{shown: string, start: number, end: number}} Piece a word with what follows it up to the next word */
/** @typedef {[number, number]} Span a line: index of its first piece and of the one after its last */

/** How subtitles look: `SubtitleStyle` in cues.py says what each value means. */
export const STYLE = {
  line_length: 42,
  lines: 2,
  min_cue: 5 / 6,
  max_cue: 7,
  max_speed: 17,
  gap: 1 / 12,
  min_pause: 0.5,
  linger: 1.5,
};
/** @typedef {typeof STYLE} Style */

const SENTENCE_MARKS = new Set(".?!。？！…");
const PHRASE_MARKS = new Set(",;:，、；：");
const CLOSING = new Set("\"'”’»)]）」』》");
const BARED = new Set(" ,;:\"'“”‘’()");
/** Columns of a full-width character. */
const WIDE = 42 / 16;
/** Characters that take as long to read as a full-width one. */
const WIDE_READING = 2;

// Costs, on a scale on which a cut between two ordinary words of a phrase costs 50.
const CUE = 6; // for each cue, so that there are fewer of them
const EMPTINESS = 15; // for a cue with hardly any text
const SENTENCE = 16; // for the end of a sentence within a cue
const PAUSE = 40; // for each second of a pause within a cue
const HASTE = 40; // for a cue that disappears before anybody can read it
const LINE_BREAK = 0.5; // a break between lines, as a share of a cut between cues
const TOP_HEAVY = 30; // for a full line next to an empty one
const BOTTOM_HEAVY = 10;
const ORPHAN = 25; // for a short word alone on a line

/**
 * The cues of utterances by start time; those of one speaker never overlap.
 *
 * @param {Utterance[]} utterances
 * @param {Style} [style]
 * @returns {Cue[]}
 */
export function cues(utterances, style = STYLE) {
  return timeCues(utterances.flatMap((utterance) => layOut(utterance, style)), style);
}

/** @param {Cue[]} laidOut cues that last as long as their speech @param {Style} style @returns {Cue[]} */
function timeCues(laidOut, style) {
  /** @type {Cue[]} */
  const result = [];
  /** @type {Map<string, number>} index of the speaker's cue before */
  const latest = new Map();
  for (let cue of [...laidOut].sort((one, other) => one.start - other.start)) {
    const index = latest.get(cue.speaker);
    if (index !== undefined) {
      result[index] = makeWay(result[index], cue.start, style);
      cue = { ...cue, start: Math.max(cue.start, result[index].end) };
    }
    latest.set(cue.speaker, result.length);
    result.push(longEnough(cue, style));
  }
  return result.map(inMilliseconds);
}

/** Rounded times; a cue lasts one millisecond at least. @param {Cue} cue */
function inMilliseconds(cue) {
  const start = Math.floor(1000 * cue.start + 0.5);
  const end = Math.floor(1000 * cue.end + 0.5);
  return { ...cue, start: start / 1000, end: Math.max(end, start + 1) / 1000 };
}

/** Stays for as long as it takes to read, as if nothing came after it. @param {Cue} cue @param {Style} style */
function longEnough(cue, style) {
  const characters = cue.lines.reduce((sum, line) => sum + measure(line, WIDE_READING), 0);
  const reading = Math.min(cue.start + characters / style.max_speed, cue.end + style.linger, cue.start + style.max_cue);
  return { ...cue, end: Math.max(cue.end, reading, cue.start + style.min_cue) };
}

/**
 * Ends in time for the speaker's next cue, or right before it if the pause would be too short.
 *
 * @param {Cue} cue @param {number} nextStart @param {Style} style
 */
function makeWay(cue, nextStart, style) {
  const room = nextStart - cue.start;
  const last = cue.start + Math.max(room - style.gap, room / 2, 0.001);
  if (nextStart - cue.end >= style.min_pause) return cue;
  return { ...cue, end: Math.min(last, Math.max(cue.end, cue.start + style.max_cue)) };
}

/** The cues of one utterance; each lasts as long as its speech. @param {Utterance} utterance @param {Style} style */
function layOut(utterance, style) {
  if (!collapseSpace(utterance.text)) return [];
  const speaker = collapseSpace(utterance.speaker);
  const pieces = cut(utterance);
  return new Layout(pieces, style, speaker ? width(`${speaker}: `) : 0).best().map((spans) => ({
    start: pieces[spans[0][0]].start,
    end: pieces.slice(spans[0][0], spans[spans.length - 1][1]).reduce((end, piece) => Math.max(end, piece.end), -Infinity),
    lines: spans.map(([first, last]) => collapseSpace(pieces.slice(first, last).map(({ shown }) => shown).join(""))),
    speaker,
  }));
}

/** Cuts the text in front of each word, so that marks and spaces stay as they are. @param {Utterance} utterance */
function cut({ text: written, start, end, words }) {
  const text = collapseSpace(written);
  /** @type {{at: number, start: number, end: number}[]} */
  const cuts = [];
  let position = 0;
  for (const word of words) {
    const at = text.indexOf(word.text, position);
    if (at < 0) continue; // a word that is not in the text belongs to the piece before it
    cuts.push({ at, start: word.start, end: word.end });
    position = at + word.text.length;
  }
  if (cuts.length === 0) return withoutWords(text, start, end);
  return cuts.map((word, index) => ({
    shown: text.slice(index === 0 ? 0 : word.at, cuts[index + 1]?.at),
    start: word.start,
    end: word.end,
  }));
}

/**
 * Cuts at spaces, with times as if each character took equally long.
 *
 * @param {string} text @param {number} start @param {number} end
 */
function withoutWords(text, start, end) {
  const length = [...text].length;
  const time = (/** @type {number} */ place) => start + ((end - start) * place) / length;
  let place = 0;
  return (text.match(/[^ ]+ */gu) ?? []).map((shown) => {
    const first = place;
    place += [...shown].length;
    return { shown, start: time(first), end: time(place) };
  });
}

/** The cheapest way to cut the pieces of an utterance into cues and lines. */
class Layout {
  #pieces;
  #style;
  #prefix;
  /** Columns up to each piece. */
  #until = [0];
  /** Columns of the space at each piece's end. */
  #trailing;
  /** Cost of a cut in front of each piece; the places before the first and after the last one are free. */
  #cuts = [0];
  /** Running total: cost of keeping all places before this one inside a cue. */
  #inside = [0, 0];

  /** @param {Piece[]} pieces @param {Style} style @param {number} prefix columns before the first line of each cue */
  constructor(pieces, style, prefix) {
    this.#pieces = pieces;
    this.#style = style;
    // A name that takes more than half of the line would leave no room for what was said.
    this.#prefix = Math.min(prefix, style.line_length / 2);
    for (const { shown } of pieces) this.#until.push(this.#until[this.#until.length - 1] + width(shown));
    this.#trailing = pieces.map(({ shown }) => width(shown) - width(trimEnd(shown)));
    pieces.slice(1).forEach((after, index) => {
      const before = pieces[index];
      const pause = after.start - before.end;
      this.#cuts.push(costOfCut(before.shown, after.shown + (pieces[index + 2]?.shown ?? ""), pause));
      const cost = SENTENCE * Number(endsWith(before.shown, SENTENCE_MARKS)) + PAUSE * Math.max(0, pause);
      this.#inside.push(this.#inside[this.#inside.length - 1] + cost);
    });
    this.#cuts.push(0);
  }

  /** The lines of each cue. @returns {Span[][]} */
  best() {
    /** @type {{cost: number, first: number, spans: Span[]}[]} */
    const best = [{ cost: 0, first: 0, spans: [] }];
    for (let last = 1; last <= this.#pieces.length; last++) {
      /** @type {{cost: number, first: number, spans: Span[]} | undefined} */
      let cheapest;
      for (let first = last - 1; first >= 0; first--) {
        const found = this.#cue(first, last);
        if (found === null) break; // more words will not fit either
        const cost = best[first].cost + found.cost + this.#cuts[last];
        if (cheapest === undefined || cost < cheapest.cost) cheapest = { cost, first, spans: found.spans };
      }
      best.push(/** @type {{cost: number, first: number, spans: Span[]}} */ (cheapest));
    }
    const result = [];
    for (let last = this.#pieces.length; last > 0; last = best[last].first) result.push(best[last].spans);
    return result.reverse();
  }

  /**
   * Cost and lines of a cue of these pieces; null if they do not fit. One piece always fits.
   *
   * @param {number} first @param {number} last
   * @returns {{cost: number, spans: Span[]} | null}
   */
  #cue(first, last) {
    const style = this.#style;
    const alone = last - first === 1;
    const start = this.#pieces[first].start;
    const lasts = this.#pieces[last - 1].end - start;
    /** @type {{cost: number, spans: Span[]} | null} */
    let wrapped = null;
    if (alone || lasts <= style.max_cue) {
      for (let lines = 1; lines <= style.lines && wrapped === null; lines++) {
        wrapped = this.#wrap(first, last, lines, this.#prefix);
      }
    }
    if (wrapped === null) {
      if (!alone) return null;
      wrapped = { cost: 0, spans: [[first, last]] };
    }
    const columns = this.#width(first, last);
    const needed = Math.max(style.min_cue, columns / style.max_speed);
    // At least the silence that ended the utterance follows it.
    const room = last < this.#pieces.length ? this.#pieces[last].start - start : lasts + style.min_pause;
    const haste = needed ? Math.max(0, 1 - room / needed) : 0;
    const emptiness = Math.max(0, 1 - columns / (style.line_length * style.lines));
    const cost = CUE + wrapped.cost + EMPTINESS * (emptiness * emptiness) + HASTE * haste;
    return { cost: cost + this.#inside[last] - this.#inside[first + 1], spans: wrapped.spans };
  }

  /**
   * Cost and lines of the cheapest way to write the pieces on so many lines.
   *
   * @param {number} first @param {number} last @param {number} lines @param {number} prefix
   * @returns {{cost: number, spans: Span[]} | null}
   */
  #wrap(first, last, lines, prefix) {
    const longest = this.#style.line_length;
    if (lines === 1) return prefix + this.#width(first, last) <= longest ? { cost: 0, spans: [[first, last]] } : null;
    /** @type {{cost: number, spans: Span[]} | null} */
    let best = null;
    for (let cut = first + 1; cut < last; cut++) {
      const top = prefix + this.#width(first, cut);
      if (top > longest) break;
      const rest = this.#wrap(cut, last, lines - 1, 0);
      if (rest === null) continue;
      const [next] = rest.spans;
      const bottom = this.#width(...next);
      const shape = ((top > bottom ? TOP_HEAVY : BOTTOM_HEAVY) * Math.abs(top - bottom)) / longest;
      const orphan = ORPHAN * (this.#isOrphan(first, cut) + this.#isOrphan(...next));
      const cost = LINE_BREAK * this.#cuts[cut] + shape + orphan + rest.cost;
      if (best === null || cost < best.cost) best = { cost, spans: [[first, cut], ...rest.spans] };
    }
    return best;
  }

  /** @param {number} first @param {number} last */
  #width(first, last) {
    return this.#until[last] - this.#until[first] - this.#trailing[last - 1];
  }

  /** @param {number} first @param {number} last */
  #isOrphan(first, last) {
    return Number(last - first === 1 && this.#width(first, last) < this.#style.line_length / 5);
  }
}

/** @param {string} text */
function words(text) {
  return new Set(text.trim().split(/\s+/));
}

const CONJUNCTIONS = words(`
    and but or nor so yet because although though while when whenever whereas if unless until since that than
    which who whom whose where why how
`);
const PREPOSITIONS = words(`
    about above across after against along among around as at before behind below beneath beside between beyond by
    despite down during except for from in inside into like near of off on onto out over past through throughout till
    to toward towards under up upon via with within without
`);
/** Determiners, auxiliaries and pronouns: like conjunctions and prepositions, they belong to the next word. */
const BINDING = words(`
    a an the this these those my your his her its our their some any every each no
    am is are was were be been being have has had do does did will would shall should can could may might must
    i you he she it we they not never very too mr mrs ms dr
    i'm you're he's she's it's we're they're i'll we'll i've we've
`);
const CHINESE_CONJUNCTIONS = words("但是 所以 因为 如果 而且 然后 不过 可是 或者 以及 还有 并且 首先 其次 最后 就是 也就");
/** They belong to the character before them. */
const CHINESE_PARTICLES = new Set("的了吗呢吧啊呀嘛着过们地得");

/**
 * How much a cut would disturb a reader.
 *
 * @param {string} before the piece before the cut
 * @param {string} after the text after it
 * @param {number} pause seconds of silence between them
 */
function costOfCut(before, after, pause) {
  if (endsWith(before, SENTENCE_MARKS)) return 0;
  const word = bare(before);
  const following = bare(collapseSpace(after).split(" ")[0]);
  const characters = [...following];
  let cost = 50;
  if (endsWith(before, PHRASE_MARKS)) cost = 8;
  else if (
    BINDING.has(word) ||
    CONJUNCTIONS.has(word) ||
    PREPOSITIONS.has(word) ||
    CHINESE_CONJUNCTIONS.has(word + (characters[0] ?? "")) ||
    CHINESE_PARTICLES.has(characters[0])
  ) {
    cost = 80;
  } else if (CONJUNCTIONS.has(following) || CHINESE_CONJUNCTIONS.has(characters.slice(0, 2).join(""))) cost = 22;
  else if (PREPOSITIONS.has(following)) cost = following === "of" ? 42 : 30;
  // Half a second of silence is as good as a comma.
  return cost * (1 - 0.84 * Math.min(1, Math.max(0, pause) / 0.5));
}

/** A word without the marks around it. @param {string} word */
function bare(word) {
  const characters = [...word];
  while (characters.length && BARED.has(characters[characters.length - 1])) characters.pop();
  while (characters.length && BARED.has(characters[0])) characters.shift();
  return characters.join("").toLowerCase();
}

/** Whether the last character, but for quotes and brackets, is one of the marks. @param {string} shown @param {Set<string>} marks */
function endsWith(shown, marks) {
  const characters = [...trimEnd(shown)];
  while (characters.length && CLOSING.has(characters[characters.length - 1])) characters.pop();
  return marks.has(characters[characters.length - 1]);
}

/** Columns that a text takes. @param {string} text */
function width(text) {
  return measure(text, WIDE);
}

/** Characters, of which a full-width one counts for several. @param {string} text @param {number} wide */
function measure(text, wide) {
  let sum = 0;
  for (const character of text) sum += isWide(character) ? wide : 1;
  return sum;
}
