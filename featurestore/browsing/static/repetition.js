// Which clips were repeated to fill the largest image: found by reading all of these images.

import { getJSON } from "./api.js";
import { number } from "./dom.js";

const POLL_MS = 500;

/** Add to the clips of a dataset after how many seconds each is repeated.
 *
 * @param progress Called with a sentence while it is looked for.
 * @param goesOn Called whether anybody still waits.
 * @returns Whether it is known now.
 */
export async function findRepetition({ key, clips, collection }, progress, goesOn) {
  while (!clips.period_s) {
    if (collection.state !== "complete") throw new Error("Repetition is known once the build is finished.");
    const facts = await getJSON(`${key}/repetition.json`);
    if (!goesOn()) return false;
    if (facts.error) throw new Error(`Repetition is not known: ${facts.error}`);
    if (facts.period_s) {
      Object.assign(clips, { period_s: facts.period_s, image_s: facts.image_s });
    } else {
      progress(`Looking for repetition: ${number(facts.done)} of ${number(facts.total)} clips`);
      await new Promise((done) => setTimeout(done, POLL_MS));
      if (!goesOn()) return false;
    }
  }
  return true;
}
