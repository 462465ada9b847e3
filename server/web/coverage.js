// @ts-check
/** Which parts of a recording have been heard. Positions in seconds. */

/** Ranges closer to each other than this are one. */
const TOUCHING = 0.001;

export class Coverage {
  /** Apart from each other, in order. @type {[number, number][]} */
  #ranges = [];

  /** Whether something of a part has been heard. @param {number} start @param {number} end */
  overlaps(start, end) {
    return this.#ranges.some(([from, to]) => from < end && start < to);
  }

  /** @param {number} start @param {number} end */
  add(start, end) {
    const apart = this.#ranges.filter(([from, to]) => to < start - TOUCHING || from > end + TOUCHING);
    const touching = this.#ranges.filter((range) => !apart.includes(range));
    const joined = [Math.min(start, ...touching.map(([from]) => from)), Math.max(end, ...touching.map(([, to]) => to))];
    this.#ranges = [...apart, /** @type {[number, number]} */ (joined)].sort(([one], [other]) => one - other);
  }

  /** @param {number} start @param {number} end */
  remove(start, end) {
    this.#ranges = this.#ranges.flatMap(([from, to]) => [
      .../** @type {[number, number][]} */ (from < start ? [[from, Math.min(to, start)]] : []),
      .../** @type {[number, number][]} */ (to > end ? [[Math.max(from, end), to]] : []),
    ]);
  }
}
