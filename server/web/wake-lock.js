// @ts-check
/** Keeps the screen on where the browser can do that. */

/** What it is kept on for. @type {Set<string>} */
const reasons = new Set();
/** @type {WakeLockSentinel | null} */
let lock = null;
let asking = false;

/** @param {string} reason @param {boolean} on */
export function keepScreenOn(reason, on) {
  if (on) reasons.add(reason);
  else reasons.delete(reason);
  void update();
}

async function update() {
  if (asking) return;
  if (reasons.size === 0) {
    await lock?.release();
    lock = null;
  } else if ((lock?.released ?? true) && "wakeLock" in navigator && document.visibilityState === "visible") {
    asking = true;
    // It may be refused, when the battery is low for one: then the screen goes off as ever.
    lock = await navigator.wakeLock.request("screen").catch(() => null);
    asking = false;
    if (reasons.size === 0) void update(); // it is not wanted any more
  }
}

// A hidden page loses its lock.
document.addEventListener("visibilitychange", () => void update());
