/**
 * Runs on the audio thread: gathers mono samples into messages of 16-bit PCM, and measures their level.
 *
 * Posts `{pcm: ArrayBuffer, peak: number, last: boolean}`; peak is 0 to 1. Takes `{active: boolean}`: only while it is
 * active are samples gathered, and when it ceases to be, what was gathered so far is posted with `last` set.
 */

const MESSAGE_SECONDS = 0.1;

class CaptureProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(Math.round(sampleRate * MESSAGE_SECONDS));
    this.filled = 0;
    this.peak = 0;
    this.active = false;
    this.port.onmessage = ({ data }) => {
      if (this.active && !data.active) this.post(true);
      this.active = data.active;
    };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const channel = inputs[0][0]; // the node asks for one channel; none while nothing is connected
    if (!this.active || !channel) return true;
    for (const sample of channel) {
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
