/**
 * Runs on the audio thread: gathers samples, mixed to mono, into messages of 16-bit PCM, and measures their level.
 *
 * Posts `{pcm: ArrayBuffer, peak: number, last: boolean}`; peak is 0 to 1. Takes `{active: boolean}`: only while it is
 * active are samples gathered, and when it ceases to be, what was gathered so far is posted with `last` set.
 */

const MESSAGE_SECONDS = 0.1;

/**
 * Mixes two channels. When one of them is inverted, as swapped wires make it, the mean would cancel the speech: that
 * channel is turned over first. media/mixing.py does the same, and says why in more words.
 */
class StereoMixer {
  static MEMORY_SECONDS = 0.1;
  /** Correlations at which a channel is turned over, and back. */
  static OPPOSITE = -0.6;
  static ALIKE = 0.3;

  sign = 1;
  // Leaky sums of products and of powers.
  common = 0;
  left = 0;
  right = 0;
  lastLeft = 0;
  lastRight = 0;

  /**
   * @param {Float32Array} left
   * @param {Float32Array} right
   * @param {Float32Array} mixed
   */
  mix(left, right, mixed) {
    const before = this.#decide(left, right);
    const step = (this.sign - before) / left.length; // a sudden change would be heard
    for (let i = 0; i < left.length; i++) mixed[i] = (left[i] + (before + step * (i + 1)) * right[i]) / 2;
  }

  /**
   * Decide the right channel's sign, and return what to begin with.
   *
   * @param {Float32Array} left
   * @param {Float32Array} right
   */
  #decide(left, right) {
    const memory = Math.exp(-left.length / (StereoMixer.MEMORY_SECONDS * sampleRate));
    const silent = this.left * this.right === 0;
    const before = this.sign;
    this.common *= memory;
    this.left *= memory;
    this.right *= memory;
    for (let i = 0; i < left.length; i++) {
      // Differences of neighbours: an offset or hum says nothing about the speech.
      const one = left[i] - this.lastLeft;
      const other = right[i] - this.lastRight;
      this.lastLeft = left[i];
      this.lastRight = right[i];
      this.common += one * other;
      this.left += one * one;
      this.right += other * other;
    }
    const scale = Math.sqrt(this.left * this.right);
    if (this.common < StereoMixer.OPPOSITE * scale) this.sign = -1;
    else if (this.common > StereoMixer.ALIKE * scale) this.sign = 1;
    return silent ? this.sign : before;
  }
}

class CaptureProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(Math.round(sampleRate * MESSAGE_SECONDS));
    this.filled = 0;
    this.peak = 0;
    this.active = false;
    this.mixer = new StereoMixer();
    this.mixed = new Float32Array(128);
    this.port.onmessage = ({ data }) => {
      if (this.active && !data.active) this.post(true);
      this.active = data.active;
    };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const [left, right] = inputs[0]; // the node asks for two channels at most; none while nothing is connected
    if (!this.active || !left) return true;
    if (right) {
      if (this.mixed.length !== left.length) this.mixed = new Float32Array(left.length);
      this.mixer.mix(left, right, this.mixed);
    }
    for (const sample of right ? this.mixed : left) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.peak = Math.max(this.peak, Math.abs(clipped));
      this.samples[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === this.samples.length) this.post(false);
    }
    return true;
  }

  /** @param {boolean} last */
  post(last) {
    const pcm = this.samples.slice(0, this.filled).buffer;
    this.port.postMessage({ pcm, peak: this.peak, last }, [pcm]);
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("capture", CaptureProcessor);
