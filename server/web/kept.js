// @ts-check
/**
 * The transcript of a tab, kept in the browser until it is cleared: it comes back after a reload, a crash, or when the
 * tab was closed. Several tabs keep one each.
 */

import { ofTab } from "./storage.js";

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").Line} Line */
/** @typedef {import("./transcript.js").Draft} Draft */
/** @typedef {{talk: string, line: Line}} KeptLine */
/** @typedef {{id: string, changed: number, drafts: Draft[]}} Talk */

const DATABASE = "parastream";
const TAB_KEY = "parastream.talk";
/** The transcript that was cleared last: a page that is left at once may not get to delete it. */
const CLEARED_KEY = "parastream.cleared";
const LOCK = "parastream.talk.";
/** How long the tab that was reloaded may take to let go of its transcript. */
const PATIENCE_MILLISECONDS = 2000;
/** Drafts change several times a second. */
const DRAFTS_MILLISECONDS = 500;

export class Kept {
  /** Whether this browser keeps what is added. */
  works = false;
  /** Whether there was something from before. */
  found = false;
  /** @type {IDBDatabase | null} */
  #database = null;
  #talk = "";
  #transcript;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Transcript} transcript */
  constructor(transcript) {
    this.#transcript = transcript;
  }

  /** Bring back what was kept, and keep what comes. */
  async open() {
    try {
      this.#database = await openDatabase();
      this.#talk = ofTab.getItem(CLEARED_KEY) ?? "";
      if (this.#talk) await this.#forget();
      this.#talk = "";
      await this.#choose();
      await this.#restore();
      this.works = true;
    } catch {
      return; // a browser that is told to keep nothing
    }
    this.#transcript.addEventListener("line", (event) => {
      if (this.#transcript.lines.length === 1) this.#writeTalk();
      this.#write("lines", { talk: this.#talk, line: /** @type {CustomEvent} */ (event).detail.line });
    });
    this.#transcript.addEventListener("drafts", () => {
      this.#timer ??= setTimeout(() => this.#writeTalk(), DRAFTS_MILLISECONDS);
    });
    this.#transcript.addEventListener("clear", () => void this.#forget());
  }

  /** Take the transcript that this tab had, or else the newest one that no tab has, or else begin one. */
  async #choose() {
    /** @type {Talk[]} */
    const talks = await this.#read("talks");
    const own = ofTab.getItem(TAB_KEY);
    const newestFirst = talks.sort((one, other) => other.changed - one.changed).map(({ id }) => id);
    const inOrder = newestFirst.sort((one, other) => Number(other === own) - Number(one === own));
    for (const id of inOrder) {
      if (await hold(id, id === own ? PATIENCE_MILLISECONDS : 0)) {
        this.#talk = id;
        break;
      }
    }
    if (!this.#talk) {
      this.#talk = crypto.randomUUID();
      await hold(this.#talk);
    }
    ofTab.setItem(TAB_KEY, this.#talk);
  }

  async #restore() {
    /** @type {KeptLine[]} */
    const lines = await this.#read("lines", IDBKeyRange.bound([this.#talk, ""], [this.#talk, "\uffff"]));
    for (const { line } of lines.sort((one, other) => one.line.start - other.line.start)) this.#transcript.add(line);
    /** @type {Talk | undefined} */
    const talk = (await this.#read("talks", IDBKeyRange.only(this.#talk)))[0];
    // What was being spoken will not get its final any more.
    for (const { id, speaker, start, stable, draft } of talk?.drafts ?? []) {
      const line = { id, speaker, start, end: start, text: (stable + draft).trim(), words: [] };
      if (this.#transcript.add(line)) this.#write("lines", { talk: this.#talk, line });
    }
    this.found = !this.#transcript.empty;
  }

  #writeTalk() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#write("talks", { id: this.#talk, changed: Date.now(), drafts: this.#transcript.drafts });
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    ofTab.setItem(CLEARED_KEY, this.#talk);
    return new Promise((resolve) => {
      this.#change((lines, talks) => {
        lines.delete(IDBKeyRange.bound([this.#talk, ""], [this.#talk, "\uffff"]));
        done(talks.delete(this.#talk)).then(() => {
          ofTab.removeItem(CLEARED_KEY);
          resolve(undefined);
        }, resolve);
      });
    });
  }

  /** @param {"lines" | "talks"} name @param {KeptLine | Talk} value */
  #write(name, value) {
    this.#change((lines, talks) => (name === "lines" ? lines : talks).put(value));
  }

  /** @param {(lines: IDBObjectStore, talks: IDBObjectStore) => void} change */
  #change(change) {
    try {
      const transaction = /** @type {IDBDatabase} */ (this.#database).transaction(["lines", "talks"], "readwrite");
      transaction.onabort = () => (this.works = false); // the disk is full, for example
      change(transaction.objectStore("lines"), transaction.objectStore("talks"));
      transaction.commit(); // by itself it would wait for this page, which may be closed before
    } catch {
      this.works = false;
    }
  }

  /** @param {"lines" | "talks"} name @param {IDBKeyRange} [range] @returns {Promise<any[]>} */
  #read(name, range) {
    const database = /** @type {IDBDatabase} */ (this.#database);
    return done(database.transaction(name).objectStore(name).getAll(range));
  }
}

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("lines", { keyPath: ["talk", "line.id"] });
    request.result.createObjectStore("talks", { keyPath: "id" });
  };
  return done(request);
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * Take hold of a transcript for as long as this page lives.
 *
 * @param {string} talk
 * @param {number} [patience] milliseconds to wait for another page to let go of it
 * @returns {Promise<boolean>} whether no other page has it
 */
function hold(talk, patience = 0) {
  return new Promise((resolve) => {
    const how = patience ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true };
    const forever = (/** @type {Lock | null} */ lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    };
    navigator.locks.request(LOCK + talk, how, forever).catch(() => resolve(false));
  });
}
