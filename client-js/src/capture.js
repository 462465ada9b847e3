// @ts-check
/** Sound from a microphone, a tab or a media file, as pieces of mono 16-bit PCM at the device's own rate. */

import { Emitter } from "./emitter.js";

/** Rates that the server takes, in Hz. */
const LOWEST_RATE = 8000;
const HIGHEST_RATE = 48000;
const DRAIN_MILLISECONDS = 500;
/** A browser without an output for sound may never be done with loading the worklet. */
const LOAD_MILLISECONDS = 10_000;

/**
 * @typedef {object} Sound
 * @property {ArrayBuffer} pcm little-endian 16-bit samples, 100 ms of them or, at the end, fewer
 * @property {number} peak loudest sample, 0 to 1
 */

/**
 * One audio context for as long as the page lives, so that the rate stays the same whatever is captured.
 *
 * Tells of `sound` while it is active, and of `ended` when the source has ended by itself: a microphone that was unplugged, a
 * tab that is shared no more.
 *
 * @extends {Emitter<{sound: Sound, ended: undefined}>}
 */
export class Capture extends Emitter {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AudioWorkletNode | null} */
  #worklet = null;
  /** @type {AudioNode | null} */
  #source = null;
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {WeakMap<HTMLMediaElement, MediaElementAudioSourceNode>} */
  #players = new WeakMap();
  /** @type {(() => void) | null} */
  #onDrained = null;
  #active = false;

  /** Sample rate in Hz, known once something is captured. */
  get rate() {
    if (this.#context === null) throw new Error("nothing has been captured yet");
    return this.#context.sampleRate;
  }

  /** Seconds of sound so far; stands still where the browser has nothing to play sound on. */
  get time() {
    return this.#context?.currentTime ?? 0;
  }

  /**
   * Capture a microphone, in place of what was captured before. Rejects as `getUserMedia` does.
   *
   * @param {string} [deviceId] left out or empty for the system's choice
   */
  async openMicrophone(deviceId = "") {
    await this.#open();
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(deviceId && { deviceId: { exact: deviceId } }),
        channelCount: { ideal: 1 },
        // What makes calls sound clean takes sounds away that the recogniser hears words by.
        echoCancellation: false,
        noiseSuppression: false,
        autoGainControl: true,
      },
    });
    await this.openStream(stream);
  }

  /**
   * Capture the sound of a tab, a window or the screen, which the browser asks the user for. Rejects as `getDisplayMedia`
   * does, and with a `NotFoundError` if what was chosen has no sound or the user did not share it.
   */
  async openTab() {
    const stream = await navigator.mediaDevices.getDisplayMedia({
      video: true, // browsers give no sound without
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    try {
      if (stream.getAudioTracks().length === 0) throw new DOMException("what was shared has no sound", "NotFoundError");
      await this.openStream(stream);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  /** Capture a stream, which is this object's from now on. @param {MediaStream} stream */
  async openStream(stream) {
    const { context, worklet } = await this.#open();
    this.#closeSource();
    this.#stream = stream;
    for (const track of stream.getAudioTracks()) {
      track.enabled = this.#active;
      track.addEventListener("ended", () => this.emit("ended", undefined));
    }
    this.#source = context.createMediaStreamSource(stream);
    this.#source.connect(worklet);
  }

  /**
   * Capture what a media element plays; it is heard, too.
   *
   * @param {HTMLMediaElement} player
   */
  async openPlayer(player) {
    const { context, worklet } = await this.#open();
    this.#closeSource();
    // An element has only one such node in its life.
    const source = this.#players.get(player) ?? context.createMediaElementSource(player);
    this.#players.set(player, source);
    source.connect(worklet);
    source.connect(context.destination);
    this.#source = source;
  }

  constructor() {
    super();
    // Systems stop the sound of pages for calls and other reasons, and do not always let it go on by themselves.
    document.addEventListener("visibilitychange", () => this.#keepRunning());
  }

  /** Let sounds come. */
  activate() {
    this.#active = true;
    this.#keepRunning();
    this.#enableTracks();
    this.#worklet?.port.postMessage({ active: true });
  }

  /** Let no more sounds come; resolves when the last one has. */
  async deactivate() {
    if (!this.#active || this.#worklet === null) return;
    this.#active = false;
    this.#enableTracks();
    const drained = new Promise((resolve) => {
      this.#onDrained = () => resolve(undefined);
      setTimeout(resolve, DRAIN_MILLISECONDS); // an audio thread that the system has stopped does not answer
    });
    this.#worklet.port.postMessage({ active: false });
    await drained;
  }

  /** Let go of the microphone or the player, and of what plays sound. */
  close() {
    this.#closeSource();
    void this.#context?.suspend();
  }

  #keepRunning() {
    if (this.#active && this.#context?.state !== "running") void this.#context?.resume();
  }

  #closeSource() {
    this.#source?.disconnect();
    this.#source = null;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
  }

  /** A microphone that is not listened to is muted, and the browser shows it so. */
  #enableTracks() {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = this.#active;
  }

  async #open() {
    if (this.#context === null || this.#worklet === null) {
      const context = createContext();
      try {
        await withinTime(context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url)), LOAD_MILLISECONDS);
      } catch (error) {
        void context.close();
        if (error instanceof DOMException && error.name === "TimeoutError") throw error;
        throw new DOMException("the worklet cannot be loaded", "NetworkError");
      }
      context.addEventListener("statechange", () => this.#keepRunning());
      const worklet = new AudioWorkletNode(context, "capture", {
        numberOfInputs: 1,
        numberOfOutputs: 1,
        channelCount: 2, // more are mixed into two, as loudspeakers have them; the worklet mixes these
        channelCountMode: "clamped-max",
      });
      worklet.port.onmessage = ({ data }) => this.#onMessage(data);
      worklet.connect(context.destination); // its output is silence; unconnected nodes may not be run
      this.#context = context;
      this.#worklet = worklet;
    }
    return { context: this.#context, worklet: this.#worklet };
  }

  /** @param {Sound & {last: boolean}} message */
  #onMessage({ pcm, peak, last }) {
    if (pcm.byteLength > 0) this.emit("sound", { pcm, peak });
    if (last) this.#onDrained?.();
  }
}

/**
 * Rejects with a `TimeoutError` if a promise is not kept in time.
 *
 * @param {Promise<void>} promise @param {number} milliseconds
 * @returns {Promise<void>}
 */
function withinTime(promise, milliseconds) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new DOMException("it takes too long", "TimeoutError")), milliseconds);
    promise.then(resolve, reject);
  });
}

/** A context at the device's own rate if the server takes that. */
function createContext() {
  const context = new AudioContext({ latencyHint: "interactive" });
  if (context.sampleRate >= LOWEST_RATE && context.sampleRate <= HIGHEST_RATE) return context;
  void context.close();
  return new AudioContext({ latencyHint: "interactive", sampleRate: HIGHEST_RATE });
}

/**
 * Whether the browser can give the sound of a tab, see `Capture.openTab`.
 *
 * Firefox and Safari share pictures without sound. A browser that shares sound also knows whether to go on playing it, as
 * Chromium does from version 109 on.
 */
export function canShareSound() {
  const known = navigator.mediaDevices?.getSupportedConstraints() ?? {};
  return "getDisplayMedia" in (navigator.mediaDevices ?? {}) && "suppressLocalAudioPlayback" in known;
}

/**
 * The microphones that the browser knows; without names until one has been allowed.
 *
 * @returns {Promise<MediaDeviceInfo[]>}
 */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}
