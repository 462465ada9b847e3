// @ts-check
/** Recordings, in any form that the browser can play. */

/**
 * Decode a recording of whatever form the browser knows. Rejects with an `EncodingError` for others.
 *
 * @param {Blob} file
 * @param {number} [rate] samples per second of what is returned
 * @returns {Promise<Int16Array<ArrayBuffer>>} its channels, mixed
 */
export async function decodeFile(file, rate = 16000) {
  const context = new OfflineAudioContext(1, 1, rate);
  const decoded = await context.decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
  const samples = new Int16Array(decoded.length);
  for (let i = 0; i < samples.length; i++) {
    const mixed = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    samples[i] = Math.round(Math.max(-1, Math.min(1, mixed)) * 32767);
  }
  return samples;
}
