// Gets what the page shows. Addresses are relative, so a server's and an exported page are the same.

async function answer(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error("The server does not answer. Start `featurestore browse` again.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error ?? `${path}: ${response.status}`);
}

/** Return what a JSON file holds; one that holds an error alone is an error, exported or not. */
export async function getJSON(path) {
  const value = await (await answer(path)).json();
  if (typeof value.error === "string" && Object.keys(value).length === 1) throw new Error(value.error);
  return value;
}

export const getBytes = async (path) => (await answer(path)).arrayBuffer();

/** Keeps the last results of a function of one text. */
export class Kept {
  constructor(make, most) {
    Object.assign(this, { make, most, results: new Map() });
  }

  get(key) {
    const known = this.results.get(key);
    if (known) {
      this.results.delete(key);
      this.results.set(key, known);
      return known;
    }
    const made = this.make(key);
    this.results.set(key, made);
    made.catch(() => {
      if (this.results.get(key) === made) this.results.delete(key);
    });
    if (this.results.size > this.most) this.results.delete(this.results.keys().next().value);
    return made;
  }
}
