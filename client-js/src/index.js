// @ts-check
/** Speech to text by a parastream server, in browsers and in Node. */

export { Capture, canShareSound, listMicrophones } from "./capture.js";
export { Client, ConnectionFailedError, ServerError, connect } from "./client.js";
export { decodeFile } from "./file.js";
export { Server } from "./server.js";
export { Session } from "./session.js";

/** @typedef {import("./capture.js").Sound} Sound */
/** @typedef {import("./client.js").ClientEvent} ClientEvent */
/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./messages.js").StartOptions} StartOptions */
/** @typedef {import("./messages.js").SessionEvent} SessionEvent */
/** @typedef {import("./messages.js").Known} Known */
/** @typedef {import("./messages.js").Final} Final */
/** @typedef {import("./messages.js").Partial} Partial */
/** @typedef {import("./messages.js").Word} Word */
/** @typedef {import("./session.js").SessionOptions} SessionOptions */
/** @typedef {import("./session.js").SessionState} SessionState */
