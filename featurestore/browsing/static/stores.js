// All stores of a directory, with the state of their builds.

import { address } from "./address.js";
import { fault, h, name, number, redraw } from "./dom.js";

export function storesView(site) {
  const body = h("tbody");
  const empty = h("p", { class: "line" }, "No store yet. One appears here as soon as its build starts.");
  const table = h(
    "table",
    { class: "list" },
    h("thead", {}, h("tr", {}, ["Store", "Dataset", "State", "Clips", "Failed", "Classes", "Folds", "Arrays"].map((text, at) => h("th", { scope: "col", class: at > 2 ? "number" : null }, text)))),
    body,
  );
  const element = h("section", {}, h("h1", {}, "Stores in ", name(site.place)), h("div", { class: "scroll" }, table), empty);
  const seen = new Map();
  const refresh = ({ stores }) => {
    redraw(body, stores.flatMap((store) => rows(store, seen)));
    empty.hidden = stores.length > 0;
    table.hidden = stores.length === 0;
  };
  refresh(site);
  return { element, refresh };
}

function rows(store, seen) {
  if (store.error) return [h("tr", {}, h("th", { scope: "row" }, name(store.name)), h("td", { colspan: 7 }, fault(store.error)))];
  return store.datasets.map((dataset) => {
    const title = h("th", { scope: "row" }, h("a", { href: address({ store: store.key, dataset: dataset.name }) }, name(store.name)));
    if (dataset.error) return h("tr", {}, title, h("td", {}, name(dataset.name)), h("td", { colspan: 6 }, fault(dataset.error)));
    const failed = Object.entries(dataset.counts).filter(([status]) => !["ok", "pending"].includes(status));
    return h(
      "tr",
      {},
      title,
      h("td", {}, name(dataset.name)),
      h("td", {}, state(dataset, `${store.key}/${dataset.name}`, seen)),
      ...[dataset.num_clips, failed.reduce((sum, [, count]) => sum + count, 0), dataset.classes, dataset.folds, dataset.arrays].map((value) => h("td", { class: "number" }, number(value))),
    );
  });
}

/** Return the state of a build, with its speed once it was seen to move. */
function state(dataset, key, seen) {
  if (dataset.state === "complete") return "complete";
  const done = dataset.num_clips - (dataset.counts.pending ?? 0);
  const now = performance.now() / 1000;
  const last = seen.get(key) ?? { done, at: now, first: done, since: now };
  if (done !== last.done) Object.assign(last, { done, at: now });
  seen.set(key, last);
  const speed = (last.done - last.first) / Math.max(1e-9, last.at - last.since);
  let words = `${number(done)} of ${number(dataset.num_clips)} clips`;
  if (speed > 0) words += `, ${speed.toFixed(0)} clips per second`;
  if (now - last.at > 20) words += `, nothing new for ${Math.round(now - last.at)} s`;
  const bar = h("progress", { max: dataset.num_clips, value: done, "aria-label": `build of ${dataset.name}` });
  return h("span", { class: "build" }, bar, h("span", {}, words));
}
