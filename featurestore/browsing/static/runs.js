// What networks made of the clips: confusions, the least certain, learning curves, who is right where.

import { address } from "./address.js";
import { h, heat, MOST_RIGHT, name, number, option, percent, refill, shown, svg } from "./dom.js";

export const WHO = ["both", "only first", "only second", "neither"];
const COLORS = ["#5b7bd5", "#c2410c", "#2a9d7c", "#8b5cf6", "#b45309", "#be185d", "#0e7490", "#4d7c0f", "#64748b", "#d9485f"];

/** Return the rows of a comparison that have one of its outcomes: `WHO`'s place, or any. */
export function rowsOf(comparison, who) {
  const code = WHO.indexOf(who);
  return new Set(comparison.clips.filter(([, of]) => code < 0 || of === code).map(([row]) => row));
}

export function runsView(dataset, place) {
  const element = h("section", { class: "runs" });
  const update = (next) => refill(element, ...parts(dataset, next).filter(Boolean));
  update(place);
  return { element, update, accepts: (next, opened) => next.view === "runs" && opened === dataset };
}

function parts(dataset, place) {
  const { runs, comparisons } = dataset.runs;
  const run = runs.find(({ key }) => key === place.query.run) ?? runs[0];
  const several = run.multilabel;
  const here = (changes) => location.replace(address({ ...place, item: "" }, { ...place.query, ...changes }));
  const pair = comparisons[Number(place.query.pair ?? 0)] ?? comparisons[0];
  return [
    h("h1", {}, "Runs"),
    ...overviews(dataset, run),
    several ? precisions(dataset, comparable(runs, run), pair, here) : null,
    comparisons.length && !several ? agreement(dataset, pair, here) : null,
    h(
      "section",
      {},
      h("h2", {}, "One run"),
      h("p", { class: "controls" }, h("label", { for: "run" }, "Run "), h("select", { id: "run", onchange: (event) => here({ run: event.target.value }) }, runs.map((one) => option(one.key, shown(one.label), run.key)))),
      h("p", { class: "card" }, name(run.path)),
      run.notes.map((note) => h("p", { class: "line" }, shown(note))),
      h("p", {}, h("a", { class: "button main wide", href: address({ ...place, view: "clips" }, { run: run.key, sort: "suspect" }) }, "Wrong clips first, then the least certain")),
    ),
    several ? mistakes(dataset, run) : confusion(dataset, run),
    curves(run),
  ];
}

const judged = (run) => run.right.filter((value) => value !== null).length;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Return a run's score of all its folds: accuracy of the clips, or the mean over folds of mAP. */
function score(run) {
  if (run.multilabel) return mean(Object.values(run.folds).map(({ accuracy }) => accuracy));
  return run.right.filter((value) => value).length / judged(run);
}

/** Return the runs whose scores may stand next to a run's: those of the same selection and rules. */
const comparable = (runs, chosen) => runs.filter(({ score }) => score === chosen.score);

/** A table for each selection and rule, the chosen run's first. */
function overviews(dataset, chosen) {
  const { runs } = dataset.runs;
  const firsts = [chosen, ...runs].filter((run, at, all) => all.findIndex(({ score }) => score === run.score) === at);
  return firsts.map((first) => overview(dataset, comparable(runs, first), chosen));
}

function overview(dataset, runs, chosen) {
  const folds = dataset.collection.folds.filter(({ fold }) => runs.some((run) => run.folds[fold]));
  const measure = chosen.multilabel ? "mAP" : "Accuracy";
  const head = ["Run", "Shown", "Clips", measure, ...folds.map((fold) => `Fold ${shown(fold.name)}`)];
  const rows = runs.map((run) => {
    const link = address({ store: dataset.store, dataset: dataset.dataset, view: "runs" }, { run: run.key });
    const cells = folds.map(({ fold }) => {
      const of = run.folds[fold];
      return h("td", { class: "number" }, of ? `${(100 * of.accuracy).toFixed(1)}` : "–");
    });
    const total = judged(run);
    return h("tr", { class: run === chosen ? "changed" : "" }, h("th", { scope: "row" }, h("a", { href: link }, name(run.label))), h("td", {}, run.score), h("td", { class: "number" }, number(total)), h("td", { class: "number" }, total ? percent(score(run)) : "–"), cells);
  });
  const caption = chosen.multilabel ? "Mean average precision on the held-out folds, in per cent; of several folds the mean" : "Accuracy on the held-out folds, in per cent";
  return h("div", { class: "scroll" }, h("table", { class: "list" }, h("caption", {}, caption), h("thead", {}, h("tr", {}, head.map((text, at) => h("th", { scope: "col", class: at > 1 ? "number" : null }, text)))), h("tbody", {}, rows)));
}

const methodsSelect = (comparisons, at, here) =>
  h("p", { class: "controls" }, h("label", { for: "pair" }, "Methods "), h("select", { id: "pair", onchange: (event) => here({ pair: event.target.value }) }, comparisons.map((one, index) => option(index, shown(`${one.first} and ${one.second}`), at))));

/** Average precision by class: a column per run, and the difference of a pair of methods. */
function precisions(dataset, runs, pair, here) {
  const { comparisons } = dataset.runs;
  const { clips, collection, store } = dataset;
  const counts = collection.card.class_names.map(() => 0);
  clips.labels.forEach((labels) => (labels ?? []).forEach((label) => (counts[label] += 1)));
  const link = (run, of) => address({ store, dataset: dataset.dataset, view: "clips" }, { run: run.key, class: of, sort: "suspect" });
  const rows = collection.card.class_names.map((of, classId) => {
    const cells = runs.map((run) => {
      const known = Object.values(run.precisions).map((by) => by[classId]).filter((value) => value !== null);
      if (!known.length) return h("td", { class: "none" }, "·");
      const value = mean(known);
      const text = `${shown(of)}, ${shown(run.label)}: average precision ${percent(value)}`;
      return heat(h("td", { class: "heat diagonal" }, h("a", { href: link(run, of), "aria-label": text }, (100 * value).toFixed(1))), value, MOST_RIGHT);
    });
    const test = pair?.classes[classId];
    const difference = pair ? [h("td", { class: "number" }, test.mean === undefined ? "–" : points(test.mean)), h("td", { class: "number" }, test.mean === undefined ? "–" : `${points(test.low)} to ${points(test.high)}`), h("td", { class: "number" }, pText(test.p))] : [];
    return h("tr", {}, h("th", { scope: "row" }, name(of)), h("td", { class: "number" }, number(counts[classId])), cells, difference);
  });
  const head = [...runs.map((run) => name(run.label)), ...(pair ? [h("span", {}, shown(`${pair.first} − ${pair.second}`)), "95 % interval", "p"] : [])];
  return h(
    "section",
    {},
    h("h2", {}, "Average precision by class"),
    comparisons.length > 1 ? methodsSelect(comparisons, comparisons.indexOf(pair), here) : null,
    h("p", {}, "In per cent, the mean over the folds in which a class occurs. A number leads to the clips of the class, those it is most wrong about first."),
    pair ? h("p", { class: "card" }, pair.note) : null,
    h("div", { class: "scroll" }, h("table", { class: "heatmap precisions" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "class"), h("th", { scope: "col" }, "clips"), head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows))),
  );
}

const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`;
const pText = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));

/** Of each class, the clips of a run that it is most wrong about: missed there, or wrongly given. */
function mistakes(dataset, run) {
  const { clips, collection, store } = dataset;
  const counts = collection.card.class_names.map(() => [0, 0]);
  run.right.forEach((right, row) => right === false && (counts[run.predicted[row]][clips.labels[row].includes(run.predicted[row]) ? 0 : 1] += 1));
  const link = (of) => address({ store, dataset: dataset.dataset, view: "clips" }, { run: run.key, predicted: of, outcome: "wrong", sort: "suspect" });
  const rows = collection.card.class_names.map((of, classId) => {
    const [missed, given] = counts[classId];
    const total = missed + given;
    const cell = total ? h("a", { href: link(of), "aria-label": `${shown(of)}: ${total} clips` }, number(total)) : "·";
    return h("tr", {}, h("th", { scope: "row" }, name(of)), h("td", { class: "number" }, number(missed)), h("td", { class: "number" }, number(given)), h("td", { class: "number" }, cell));
  });
  const right = run.right.filter((value) => value).length;
  return h("section", {}, h("h2", {}, "Wrong labels"), h("p", {}, `A class counts as given from a probability of 0.5. By that ${number(right)} of ${number(judged(run))} clips have all their labels and no other; each of the rest is counted once, at the class that is most wrong.`), h("div", { class: "scroll" }, h("table", { class: "list mistakes" }, h("thead", {}, h("tr", {}, ["class", "missed", "given wrongly", "clips"].map((text, at) => h("th", { scope: "col", class: at ? "number" : null }, text)))), h("tbody", {}, rows))));
}

/** Who is right where: the counts of a pair of methods, by class and by fold. */
function agreement(dataset, pair, here) {
  const { comparisons } = dataset.runs;
  const { clips, collection, store } = dataset;
  const at = comparisons.indexOf(pair);
  const labels = ["both", `only ${pair.first}`, `only ${pair.second}`, "neither"];
  const link = (who, more = {}) => address({ store, dataset: dataset.dataset, view: "clips" }, { pair: at, who: WHO[who], ...more });
  const counts = (test) => pair.clips.reduce((sum, [row, code]) => (test(row) && (sum[code] += 1), sum), [0, 0, 0, 0]);
  const all = counts(() => true);
  const bar = (of, more, label) => {
    const total = of.reduce((sum, value) => sum + value, 0);
    const parts = of.map((value, who) => {
      if (!value) return null;
      const part = h("a", { class: `who who${who}`, href: link(who, more), "aria-label": `${label}: ${value} ${labels[who]}`, title: `${labels[who]}: ${value}` }, number(value));
      part.style.flexGrow = value / total;
      return part;
    });
    return h("div", { class: "whobar" }, parts);
  };
  const row = (label, of, more) => h("tr", {}, h("th", { scope: "row" }, name(label)), h("td", { class: "wide" }, bar(of, more, label)));
  const classes = collection.card.class_names.map((of, classId) => row(of, counts((clip) => clips.class_id[clip] === classId), { class: of }));
  const held = new Set(pair.clips.map(([clip]) => clips.fold[clip]));
  const folds = collection.folds.filter(({ fold }) => held.has(fold)).map(({ fold, name: of }) => row(`fold ${of}`, counts((clip) => clips.fold[clip] === fold), { fold }));
  const [, first, second] = all;
  const sentence = pair.p === null ? `A test needs one common seed; here are ${pair.seeds.length}.` : `McNemar's test: p ${pair.p < 0.001 ? "" : "= "}${pText(pair.p)}. ${pair.p < 0.05 ? `${first > second ? pair.first : pair.second} is right more often where one of them is wrong.` : "No difference shown."}`;
  return h(
    "section",
    {},
    h("h2", {}, "Who is right where"),
    methodsSelect(comparisons, at, here),
    h("ul", { class: "figures" }, labels.map((label, who) => h("li", { class: `key${who}` }, h("a", { href: link(who) }, h("b", {}, number(all[who])), h("span", {}, shown(label)))))),
    h("p", {}, sentence),
    h("p", { class: "card" }, pair.note),
    h("div", { class: "scroll" }, h("table", { class: "list whos" }, h("tbody", {}, classes, folds.length > 1 ? [h("tr", { class: "apart" }, h("td", { colspan: 2 })), ...folds] : []))),
  );
}

function confusion(dataset, run) {
  const { clips, collection, store } = dataset;
  const names = collection.card.class_names;
  const counts = names.map(() => new Array(names.length).fill(0));
  run.predicted.forEach((value, row) => value !== null && (counts[clips.class_id[row]][value] += 1));
  const worst = Math.max(1, ...counts.flatMap((row, of) => row.filter((_, as) => as !== of)));
  const link = (of, as) => address({ store, dataset: dataset.dataset, view: "clips" }, { run: run.key, class: names[of], predicted: names[as], sort: "suspect" });
  const head = h("tr", {}, h("th", { scope: "col" }, "true ↓ predicted →"), names.map((text) => h("th", { scope: "col", class: "turned" }, h("span", {}, name(text)))), h("th", { scope: "col" }, "recall"));
  const rows = counts.map((row, of) => {
    const total = row.reduce((sum, value) => sum + value, 0);
    const cells = row.map((count, as) => {
      if (!count) return h("td", { class: "none" }, "·");
      const text = `${count} clips of ${names[of]} taken for ${names[as]}`;
      const cell = h("td", { class: of === as ? "heat diagonal" : "heat" }, h("a", { href: link(of, as), "aria-label": text }, number(count)));
      return of === as ? heat(cell, count / total, MOST_RIGHT) : heat(cell, count / worst);
    });
    return h("tr", {}, h("th", { scope: "row" }, name(names[of])), cells, h("td", { class: "number" }, total ? percent(row[of] / total) : "–"));
  });
  return h("section", {}, h("h2", {}, "Confusions"), h("p", {}, "A number leads to its clips."), h("div", { class: "scroll" }, h("table", { class: "heatmap confusion" }, h("thead", {}, head), h("tbody", {}, rows))));
}

/** Learning curves: accuracy and losses by epoch, a line per fold, a dot where an epoch counts. */
function curves(run) {
  const folds = Object.keys(run.epochs);
  const measure = run.multilabel ? "mAP" : "accuracy";
  const scores = chart(run, "score", measure, [0, 1], (value) => `${Math.round(100 * value)} %`);
  const losses = folds.flatMap((fold) => [...run.epochs[fold].train_loss]);
  const most = Math.max(...losses, 0.01);
  return h(
    "section",
    {},
    h("h2", {}, "Learning curves"),
    h("div", { class: "pair" }, h("figure", {}, h("figcaption", {}, `${run.multilabel ? measure : "Accuracy"} by epoch, on what picks or watches the epoch; a dot where it counts`), scores), h("figure", {}, h("figcaption", {}, "Training loss by epoch, in nats"), chart(run, "train_loss", "training loss", [0, most], (value) => value.toFixed(1)))),
    h("ul", { class: "legend" }, folds.map((fold, at) => {
      const item = h("li", {}, h("i", {}), `fold ${fold}`);
      item.firstChild.style.background = COLORS[at % COLORS.length];
      return item;
    })),
  );
}

function chart(run, column, label, [low, high], text) {
  const folds = Object.keys(run.epochs);
  const epochs = Math.max(1, ...folds.map((fold) => run.epochs[fold].epoch.length));
  // Drawn as wide as it is shown, nearly: letters stay as large as the page's on a phone.
  const [left, top, width, height] = [44, 22, innerWidth < 720 ? 300 : 540, 190];
  const x = (epoch) => left + (width * (epoch - 0.5)) / epochs;
  const y = (value) => top + height - (height * (value - low)) / (high - low);
  const marks = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = low + share * (high - low);
    marks.push(svg("line", { x1: left, x2: left + width, y1: y(value), y2: y(value), class: "gridline" }), svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)));
  }
  const first = run.epochs[folds[0]];
  const arrays = first.stage.map((stage) => first.array[first.stage.indexOf(stage)]);
  first.stage.forEach((stage, at) => {
    const start = left + (width * at) / epochs;
    if (at && stage !== first.stage[at - 1]) marks.push(svg("line", { x1: start, x2: start, y1: top, y2: top + height, class: "stage" }));
    if (at && arrays[at] === arrays[at - 1]) return;
    const next = arrays.findIndex((array, later) => later > at && array !== arrays[at]);
    if ((width * ((next < 0 ? epochs : next) - at)) / epochs > 48) marks.push(svg("text", { x: start + 3, y: top - 7 }, shown(first.array[at])));
  });
  const step = Math.max(1, Math.ceil(epochs / 8));
  for (let epoch = step; epoch <= epochs; epoch += step) marks.push(svg("text", { x: x(epoch), y: top + height + 15, "text-anchor": "middle" }, epoch));
  folds.forEach((fold, at) => {
    const color = COLORS[at % COLORS.length];
    const values = run.epochs[fold][column];
    const points = values.map((value, index) => `${x(run.epochs[fold].epoch[index]).toFixed(1)},${y(value).toFixed(1)}`);
    marks.push(svg("polyline", { points: points.join(" "), stroke: color, class: "curve" }));
    const epoch = run.folds[fold]?.epoch;
    if (epoch) marks.push(svg("circle", { cx: x(epoch), cy: y(values[epoch - 1]), r: 4, fill: color }, svg("title", {}, `fold ${fold}, epoch ${epoch}`)));
  });
  const ends = folds.map((fold) => `fold ${fold} ends at ${text(run.epochs[fold][column].at(-1))}`).join(", ");
  return svg("svg", { viewBox: `0 0 ${left + width + 12} 236`, class: "chart", role: "img", "aria-label": `${label}: ${ends}` }, marks);
}

/** What each run says of a clip, with probabilities. */
export function verdicts(dataset, row, probabilities) {
  const { runs } = dataset.runs;
  const { clips, collection } = dataset;
  const names = collection.card.class_names;
  const tables = runs.map((run) => {
    const shares = probabilities[run.key];
    if (!shares) return h("div", { class: "verdict" }, h("b", {}, name(run.label)), h("p", {}, "No network of it held this clip out."));
    const order = names.map((_, classId) => classId).sort((a, b) => shares[b] - shares[a]);
    const own = clips.classesOf(row);
    const as = run.predicted[row];
    const isRight = run.right[row];
    const said = run.multilabel ? (isRight ? "right: every label" : [`wrong: ${own.includes(as) ? "misses" : "gives"} `, name(names[as])]) : [isRight ? "right: " : "wrong: ", name(names[as])];
    const line = (classId) => {
      const fill = h("i", {});
      fill.style.width = `${100 * shares[classId]}%`;
      return h("li", { class: own.includes(classId) ? "true" : "" }, h("span", {}, name(names[classId])), h("span", { class: "share" }, fill), h("span", { class: "value" }, shares[classId].toFixed(3)));
    };
    const more = order.slice(5);
    return h("div", { class: `verdict ${isRight ? "right" : "wrong"}` }, h("b", {}, name(run.label)), h("p", {}, said), h("ul", {}, order.slice(0, 5).map(line)), more.length ? h("details", {}, h("summary", {}, `${more.length} more classes`), h("ul", {}, more.map(line))) : null);
  });
  return h("section", { class: "verdicts" }, h("h2", {}, "What the runs say"), h("div", { class: "cards" }, tables));
}
