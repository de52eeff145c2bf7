// What a dataset is: figures, classes by folds, failures, recordings, licence, how it was made.

import { address } from "./address.js";
import { byClassAndFold, figures, median, recordings } from "./clips.js";
import { decibels, duration, h, heat, name, number, option, percent, redraw, svg, webLink } from "./dom.js";
import { findRepetition } from "./repetition.js";

const METRICS = {
  clips: { label: "clips", of: (f) => f.clips, text: number },
  seconds: { label: "total duration", of: (f) => f.total_s, text: duration },
  median: { label: "median duration", of: (f) => f.median_s, text: duration },
  failed: { label: "failed", of: (f) => f.failed, text: number, status: "failed" },
  silent: { label: "silent", of: (f) => f.silent, text: number, status: "silent" },
  mostly: { label: "mostly repetition", of: (f) => f.mostly, text: number, status: "mostly", scan: true },
  trimmed: { label: "trimmed share of repeated clips", of: (f) => f.trimmed, text: percent, status: "repeated", scan: true },
  pending: { label: "not built yet", of: (f) => f.pending, text: number, status: "pending" },
};

export function collectionView(dataset, place) {
  const element = h("section", { class: "collection" });
  let current = dataset;
  let closed = false;
  let query = place.query;
  const draw = () => redraw(element, parts(current, query));
  const scan = async () => {
    const { clips, collection } = current;
    if (clips.period_s || collection.state !== "complete") return;
    const goesOn = () => !closed && clips === current.clips;
    const say = (text) => {
      clips.scan = text;
      const line = element.querySelector(".scan");
      if (line) line.textContent = text;
    };
    try {
      if (await findRepetition(current, say, goesOn)) draw();
    } catch (error) {
      if (goesOn()) say(error.message);
    }
  };
  draw();
  return {
    element,
    refresh: (now) => {
      current = now;
      draw();
      scan();
    },
    opened: scan,
    close: () => (closed = true),
    accepts: (next, opened) => next.view === "collection" && opened === current,
    update: (next) => {
      query = next.query;
      draw();
    },
  };
}

function parts(dataset, query) {
  const { collection, clips } = dataset;
  const all = figures(clips, [...Array(clips.size).keys()]);
  const card = collection.card;
  return [
    h("h1", {}, name(card.title || card.name)),
    h(
      "p",
      { class: "card" },
      name(card.name),
      card.licence ? [" · ", name(card.licence)] : [],
      card.url ? [" · ", webLink(card.url)] : [],
      collection.partial ? [" · ", h("strong", {}, collection.partial)] : [],
    ),
    building(collection),
    keyFigures(dataset, all),
    h("div", { class: "columns" }, heatMap(dataset, query), aside(dataset, all)),
    made(collection),
  ].filter(Boolean);
}

function building(collection) {
  if (collection.state === "complete") return null;
  const done = collection.num_clips - (collection.counts.pending ?? 0);
  return h(
    "p",
    { class: "line notice", role: "status" },
    h("progress", { max: collection.num_clips, value: done, "aria-label": "build" }),
    ` The build is not finished: ${number(done)} of ${number(collection.num_clips)} clips are there. This page follows it.`,
  );
}

function keyFigures({ store, dataset, collection, clips }, all) {
  const link = (status) => address({ store, dataset, view: "clips" }, { status });
  const seen = recordings(clips);
  const boxes = [
    [number(all.clips), "clips", link("")],
    [number(all.ok), "with features", link("ok")],
    [number(all.failed), "failed", link("failed")],
    [number(collection.card.class_names.length), "classes"],
    [number(collection.folds.length), "folds"],
    [duration(all.total_s), "of sound"],
    [all.median_s === null ? "–" : duration(all.median_s), "median clip"],
    [number(all.silent), "silent", link("silent")],
  ];
  if (seen.number) boxes.push([number(seen.number), "recordings"]);
  // There from the start, so that nothing moves under the pointer once it is known.
  if (clips.period_s) boxes.push([percent(all.repeated / Math.max(1, all.ok)), "repeated", link("repeated")]);
  else if (collection.state === "complete") boxes.push(["…", "repeated"]);
  return h(
    "ul",
    { class: "figures" },
    boxes.map(([value, label, href]) => h("li", {}, h(href ? "a" : "div", { href }, h("b", {}, value), h("span", {}, label)))),
  );
}

function heatMap({ store, dataset, collection, clips }, query) {
  const chosen = METRICS[query.show] ?? METRICS.clips;
  const waits = chosen.scan && !clips.period_s;
  const cells = byClassAndFold(clips);
  const folds = collection.folds;
  const here = (show) => location.replace(address({ store, dataset }, { show }));
  const select = h(
    "select",
    { id: "metric", onchange: (event) => here(event.target.value) },
    Object.entries(METRICS).map(([key, { label }]) => option(key, label, query.show ?? "clips")),
  );
  const values = new Map();
  let [least, most] = [Infinity, 0];
  for (const [classId, of] of cells) {
    for (const [fold, rows] of of) {
      const value = chosen.of(figures(clips, rows));
      values.set(`${classId} ${fold}`, value);
      [least, most] = [Math.min(least, value ?? 0), Math.max(most, value ?? 0)];
    }
  }
  const row = (className, classId) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: address({ store, dataset, view: "clips" }, { class: className }) }, name(className))),
      folds.map(({ fold, name: label }) => {
        const value = values.get(`${classId} ${fold}`) ?? null;
        if (value === null) return h("td", { class: "none" }, "–");
        const href = address({ store, dataset, view: "clips" }, { class: className, fold, status: chosen.status });
        const text = chosen.text(value);
        const link = h("a", { href, "aria-label": `${className}, fold ${label}: ${text} ${chosen.label}` }, text);
        return heat(h("td", { class: "heat" }, link), warmth(value, least, most));
      }),
    );
  const several = clips.labels ? "; a clip counts for each of its labels" : "";
  const caption = h("caption", {}, `Classes by folds: ${chosen.label}${several}`);
  const head = h("tr", {}, h("th", { scope: "col" }, "Class"), folds.map((fold) => h("th", { scope: "col" }, name(fold.name))));
  const table = h("table", { class: "heatmap" }, caption, h("thead", {}, head), h("tbody", {}, collection.card.class_names.map(row)));
  return h(
    "section",
    {},
    h("h2", {}, "Classes and folds"),
    h("p", { class: "controls" }, h("label", { for: "metric" }, "Show "), select),
    waits ? h("p", { class: "line scan", role: "status" }, collection.state === "complete" ? clips.scan ?? "Looking for repetition" : "Repetition is known once the build is finished.") : h("div", { class: "scroll" }, table),
  );
}

/** Return how warm a cell is, in [0, 1]: of values alike their differences, but no hair's breadth. */
function warmth(value, least, most) {
  if (!most) return 0;
  if (least > most / 2) return 0.3 + (0.7 * (value - least)) / Math.max(most - least, most / 4);
  return value / most;
}

function aside({ store, dataset, collection, clips }, all) {
  return h(
    "div",
    {},
    failures(store, dataset, collection),
    h("section", {}, h("h2", {}, "Durations"), histogram(clips.duration_s.filter((value) => value !== null), duration, "clips by duration")),
    h("section", {}, h("h2", {}, "Peak levels"), histogram(clips.peak.filter((value) => value > 0).map((value) => 20 * Math.log10(value)), decibels, "clips by peak level")),
    repetition(store, dataset, clips, all),
    recordingFacts(store, dataset, clips),
  );
}

function failures(store, dataset, { counts, statuses }) {
  const codes = Object.values(statuses).filter(({ name: status }) => !["ok", "pending"].includes(status) && counts[status]);
  const rows = codes.map(({ name: status, reason }) =>
    h("li", {}, h("a", { href: address({ store, dataset, view: "clips" }, { status }) }, `${number(counts[status])} × ${reason}`)),
  );
  return h("section", {}, h("h2", {}, "Failures"), rows.length ? h("ul", {}, rows) : h("p", {}, "None: every clip that was tried has features."));
}

function repetition(store, dataset, clips, all) {
  if (!clips.period_s) return null;
  const lines = [
    `${number(all.repeated)} clips are shorter than the largest image (${duration(clips.image_s)}) once silence is removed, and are repeated to fill it; ` +
      `${number(all.mostly)} of them are mostly repetition.`,
  ];
  if (all.trimmed !== null) lines.push(`Of these ${number(all.repeated)} clips, ${percent(all.trimmed)} was silence at the ends, on average. Of longer ones a store does not say.`);
  return h(
    "section",
    {},
    h("h2", {}, "Repetition and silence"),
    lines.map((line) => h("p", {}, line)),
    h("p", {}, h("a", { href: address({ store, dataset, view: "clips" }, { status: "repeated" }) }, "See them")),
  );
}

function recordingFacts(store, dataset, clips) {
  const seen = recordings(clips);
  if (!seen.number) return null;
  const link = (recording, label) => h("a", { href: address({ store, dataset, view: "clips" }, { recording }) }, label);
  const shared = seen.several.length
    ? [`${number(seen.several.length)} recordings have clips in more than one fold, so folds are not independent: `, seen.several.slice(0, 8).flatMap((source, at) => [at ? ", " : "", link(source, name(source))]), seen.several.length > 8 ? ", …" : ""]
    : ["No recording has clips in more than one fold."];
  return h(
    "section",
    {},
    h("h2", {}, "Recordings"),
    h("p", {}, `The clips were cut from ${number(seen.number)} recordings, at most ${number(seen.most)} of one: `, link(seen.largest, name(seen.largest)), "."),
    h("p", { class: seen.several.length ? "warn" : "" }, shared.flat()),
  );
}

/** Return a histogram of 24 bars with its ends and its median in words. */
function histogram(values, text, label) {
  if (!values.length) return h("p", {}, "Nothing to show yet.");
  const sorted = Float64Array.from(values).sort();
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const bars = new Array(24).fill(0);
  for (const value of sorted) bars[high > low ? Math.min(23, Math.floor((24 * (value - low)) / (high - low))) : 12] += 1;
  const most = Math.max(...bars);
  const rects = bars.map((count, at) => svg("rect", { x: at * 10, y: 60 - (58 * count) / most, width: 9, height: (58 * count) / most }, svg("title", {}, `${number(count)} clips`)));
  const middle = text(median(sorted));
  const picture = svg("svg", { viewBox: "0 0 240 60", class: "histogram", role: "img", "aria-label": `${label}: from ${text(low)} to ${text(high)}, median ${middle}`, preserveAspectRatio: "none" }, rects);
  return h("figure", {}, picture, h("figcaption", {}, h("span", {}, text(low)), h("span", {}, `median ${middle}`), h("span", {}, text(high))));
}

function made(collection) {
  const facts = {
    Fingerprint: collection.fingerprint,
    "Format version": collection.format_version,
    "Extractor version": collection.extractor_version,
    "Made with": Object.entries(collection.libraries).map(([library, version]) => `${library} ${version}`).join(", "),
    Arrays: collection.arrays.map(({ name: array, shape }) => `${array} ${shape.join(" × ")}`).join(", "),
    "Stored as": `${collection.spec.dtype}, ${collection.chunk_clips} clips per chunk`,
    Place: collection.path,
    Citation: collection.card.citation,
  };
  const changes = Object.keys(collection.spec_changes);
  const spec = Object.entries(collection.spec).map(([field, value]) =>
    h("tr", { class: changes.includes(field) ? "changed" : "" }, h("th", { scope: "row" }, field), h("td", {}, h("code", {}, JSON.stringify(value)))),
  );
  return h(
    "section",
    {},
    h("h2", {}, "How it was made"),
    h("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== "").flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, name(value))])),
    h(
      "details",
      {},
      h("summary", {}, changes.length ? `Feature settings: the paper's but for ${changes.join(", ")}` : "Feature settings: the paper's"),
      h("div", { class: "scroll" }, h("table", { class: "list spec" }, h("tbody", {}, spec))),
    ),
  );
}
