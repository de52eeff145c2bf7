// Addresses of views: what follows `#`.

/** Return the parts of an address: `#/STORE/DATASET/VIEW/ITEM?query`; none if it is damaged. */
export function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  let parts = [];
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    return { view: "damaged", query: {} };
  }
  const [store, dataset, view, item] = parts;
  return { store, dataset, view: view || "collection", item, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the address of a view; parts of the query that are empty are left out. */
export function address({ store, dataset, view, item }, query = {}) {
  const path = [store, dataset, view, item].filter((part) => part !== undefined && part !== "");
  const pairs = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(pairs).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}
