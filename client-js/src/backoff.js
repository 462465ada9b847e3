// @ts-check
/** Waiting longer and longer between attempts. */

const FIRST_SECONDS = 0.25;
const LONGEST_SECONDS = 5;

export class Backoff {
  #seconds = FIRST_SECONDS;
  /** @type {() => void} */
  #cancel = () => {};

  /**
   * When to make the next attempt.
   *
   * @returns {{seconds: number, due: Promise<boolean>}} `due` becomes true then, false if it was cancelled before
   */
  next() {
    this.#cancel();
    const seconds = this.#seconds * (0.5 + Math.random() / 2); // so that not everybody comes at once
    this.#seconds = Math.min(2 * this.#seconds, LONGEST_SECONDS);
    const due = new Promise((/** @type {(made: boolean) => void} */ resolve) => {
      const timer = setTimeout(() => resolve(true), seconds * 1000);
      this.#cancel = () => {
        clearTimeout(timer);
        resolve(false);
      };
    });
    return { seconds, due };
  }

  /** No attempt is wanted. */
  cancel() {
    this.#cancel();
  }

  /** An attempt succeeded. */
  reset() {
    this.#seconds = FIRST_SECONDS;
  }
}
