// @ts-check
/** What the page says when there is no sound. */

export const NO_OUTPUT =
  "This browser gives the page no sound: it finds nothing to play sound on. Connect speakers or headphones, then start again.";

/**
 * Why there is no sound, in words.
 *
 * @param {unknown} error what `openMicrophone`, `openTab` or `openPlayer` rejected with
 * @param {boolean} [tab] whether it was to be that of a tab
 */
export function explainSoundError(error, tab = false) {
  if (!window.isSecureContext) {
    return "Browsers give sound only to pages at https:// or localhost. Open this page at such an address.";
  }
  if (tab && error instanceof Error && error.name === "NotAllowedError") return "Nothing was shared.";
  if (tab && error instanceof Error && error.name === "NotFoundError") {
    return "What was shared has no sound. Choose a tab, and let its sound be shared, too.";
  }
  switch (error instanceof Error ? error.name : "") {
    case "NetworkError":
      return "The server cannot be reached. Try again in a moment.";
    case "NotAllowedError":
      return "The microphone is not allowed for this page. Allow it in the browser’s site settings, then start again.";
    case "TimeoutError":
      return NO_OUTPUT;
    case "NotFoundError":
      return "No microphone was found. Connect one, or caption a file.";
    case "OverconstrainedError":
      return "The chosen microphone is not there any more. Choose another one.";
    case "NotReadableError":
      return "The microphone is there but gives no sound; another program may be using it.";
    default:
      return `The microphone cannot be used: ${error instanceof Error ? error.message : String(error)}`;
  }
}
