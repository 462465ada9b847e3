// @ts-check

/**
 * Tells listeners of what happens.
 *
 * @template {object} Events what each kind of event comes with
 */
export class Emitter {
  #target = new EventTarget();

  /**
   * Have a function called for each event of a kind, in order. What it throws is reported, and stops nothing.
   *
   * @template {keyof Events & string} K
   * @param {K} type
   * @param {(detail: Events[K]) => void} listener
   * @returns {() => void} call it to listen no more
   */
  on(type, listener) {
    const heard = (/** @type {Event} */ event) => listener(/** @type {CustomEvent<Events[K]>} */ (event).detail);
    this.#target.addEventListener(type, heard);
    return () => this.#target.removeEventListener(type, heard);
  }

  /**
   * @template {keyof Events & string} K
   * @param {K} type
   * @param {Events[K]} detail
   * @protected
   */
  emit(type, detail) {
    this.#target.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
