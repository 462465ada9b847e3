// @ts-check
/** What a session is asked for, and what comes of it; docs/protocol.md of the server explains every field. */

/**
 * Times are in seconds.
 *
 * @typedef {{text: string, start: number, end: number, confidence: number}} Word
 */
/**
 * Fields of `start`, by the names of the protocol; what is left out is as the server has it.
 *
 * @typedef {object} StartOptions
 * @property {"s16le" | "s24le" | "s32le" | "u8" | "f32le" | "f64le" | "mulaw" | "alaw"} [format] of the samples; `s16le` if it is left out
 * @property {number} [rate] samples per second, 8000 to 48000; 16000 if it is left out
 * @property {number} [channels] interleaved ones; 1 if it is left out
 * @property {number | "all" | "mix"} [channel] which of them is recognised
 * @property {string[]} [labels] names of the speakers, one for each channel that is recognised
 * @property {string} [model] the one that is expected
 * @property {string[]} [hotwords]
 * @property {boolean} [partials]
 * @property {boolean} [punctuation]
 * @property {boolean} [itn] numbers as people write them
 * @property {string[]} [replace] rules for replacing words
 * @property {"" | "keep" | "mask" | "drop"} [profanity] what becomes of swear words
 * @property {boolean} [final_pass]
 * @property {string} [language] what is spoken, as an ISO 639 code
 * @property {boolean} [tags] emotions and sounds
 * @property {Record<string, number>} [endpoint] where utterances begin and end
 * @property {number} [stats] seconds between `stats` events
 * @property {string} [room] caption room that shows the session
 */

/** @typedef {{type: "speech_started", utterance: number, time: number, channel: number}} SpeechStarted */
/**
 * The text so far: `stable` only grows; `draft` may change, and follows right after it, spacing included.
 *
 * @typedef {{type: "partial", utterance: number, start: number, end: number, stable: string, draft: string, words: Word[], channel: number}} Partial
 */
/**
 * @typedef {{type: "speech_ended", utterance: number, time: number, channel: number, reason: "silence" | "cut" | "flush" | "finish"}} SpeechEnded
 */
/** @typedef {{type: "tags", utterance: number, emotion: string, sound: string, channel: number}} Tags */
/**
 * The text will not change any more; it may be empty.
 *
 * @typedef {{type: "final", utterance: number, start: number, end: number, text: string, words: Word[], confidence: number, channel: number, ear: string, language: string}} Final
 */
/** @typedef {{type: "flushed", time: number}} Flushed */
/** @typedef {{type: "stats", received: number, backlog: number}} Stats */
/** The last one. @typedef {{type: "done", duration: number}} Done */
/**
 * Finals of these utterances will not come: they are recognised once more, as others, since the server lost them.
 *
 * @typedef {{type: "forgotten", utterances: number[]}} Forgotten
 */
/**
 * Audio that was given up, for want of a connection.
 *
 * @typedef {{type: "lost", start: number, end: number}} Lost
 */
/**
 * Utterances are numbered from 0, and times are seconds of the audio, over however many connections and sessions of the
 * server it takes.
 *
 * @typedef {SpeechStarted | Partial | SpeechEnded | Tags | Final | Flushed | Stats | Done | Forgotten | Lost} SessionEvent
 */

/**
 * A model that listens: to speech while it lasts, to whole utterances, or to both.
 *
 * @typedef {{name: string, partials: boolean, finals: boolean, languages: string[], figures: string, licence: string}} Ear
 */
/**
 * What a server hears with, as far as it is known.
 *
 * @typedef {{model: string | null, languages: string[] | null, ears?: Ear[] | null}} Known
 */

export {};
