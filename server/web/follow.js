// @ts-check
/** Scrolling along with what is spoken, until the reader scrolls up. */

const NEAR_PIXELS = 48;

/**
 * Change what is in a list while the line at the top of the window stays where it is.
 *
 * @param {HTMLElement} scroller
 * @param {HTMLElement} list
 * @param {() => void} change
 */
export function keepPlace(scroller, list, change) {
  const top = scroller.getBoundingClientRect().top;
  const shown = [...list.children].find((line) => line.getBoundingClientRect().bottom > top);
  const before = shown?.getBoundingClientRect().top ?? 0;
  change();
  if (shown) scroller.scrollTop += shown.getBoundingClientRect().top - before;
}

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content what grows in it
 * @param {HTMLButtonElement} button "jump to newest", shown while the reader is elsewhere
 */
export function followNewest(scroller, content, button) {
  let following = true;
  let bottom = 0;

  const jump = () => {
    following = true;
    button.hidden = true;
    scroller.scrollTop = scroller.scrollHeight;
    bottom = scroller.scrollTop;
  };
  scroller.addEventListener("scroll", () => {
    const distance = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    if (distance < NEAR_PIXELS) following = true;
    else if (scroller.scrollTop < bottom) following = false; // content that grows does not scroll up
    bottom = scroller.scrollTop;
    button.hidden = following;
  });
  button.addEventListener("click", () => {
    jump();
    scroller.focus();
  });
  const observer = new ResizeObserver(() => following && jump());
  observer.observe(content);
  observer.observe(scroller);
  return jump;
}
