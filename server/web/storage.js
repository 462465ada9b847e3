// @ts-check
/** What the browser keeps for this site. Where it may keep nothing, it is forgotten with the page. */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Store */

/** @returns {Store} */
function memory() {
  /** @type {Map<string, string>} */
  const values = new Map();
  return {
    getItem: (name) => values.get(name) ?? null,
    setItem: (name, value) => void values.set(name, value),
    removeItem: (name) => void values.delete(name),
  };
}

/** @param {() => Store} open throws where cookies are blocked @returns {Store} */
function orMemory(open) {
  try {
    return open();
  } catch {
    return memory();
  }
}

/** For as long as the browser likes. */
export const lasting = orMemory(() => localStorage);
/** For as long as the tab is open. */
export const ofTab = orMemory(() => sessionStorage);
