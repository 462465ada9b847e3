// @ts-check
/** The recent audio of a recording, which may have to be sent again. Positions are bytes since the recording began. */

export class AudioBuffer {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #pieces = [];
  #start = 0;
  #end = 0;

  /** Position after the last byte. */
  get end() {
    return this.#end;
  }

  /** @param {Uint8Array<ArrayBuffer>} audio must not change any more */
  append(audio) {
    this.#pieces.push(audio);
    this.#end += audio.byteLength;
  }

  /**
   * The rest of the piece that holds `position`, which must be there, or as much of it as is wanted.
   *
   * @param {number} position @param {number} most bytes
   */
  read(position, most) {
    // What is asked for is nearly always among the newest pieces.
    let first = this.#end;
    for (let index = this.#pieces.length - 1; index >= 0; index--) {
      const piece = this.#pieces[index];
      first -= piece.byteLength;
      if (position >= first) return piece.subarray(position - first, position - first + most);
    }
    throw new RangeError(`byte ${position} of the recording is gone; it begins at ${this.#start}`);
  }

  /**
   * Forget the pieces that end at `position` or before.
   *
   * @param {number} position
   */
  forget(position) {
    let count = 0;
    while (count < this.#pieces.length && this.#start + this.#pieces[count].byteLength <= position) {
      this.#start += this.#pieces[count++].byteLength;
    }
    if (count) this.#pieces.splice(0, count);
  }
}
