// The clips as a grid of spectrograms. Only what can be seen is in the page, whatever the number.

import { address } from "./address.js";
import { getBytes, getJSON, Kept } from "./api.js";
import { SORTS } from "./clips.js";
import { MAPS, paint } from "./colors.js";
import { h, name, number, option, problem, redraw, shown } from "./dom.js";
import { findRepetition } from "./repetition.js";
import { rowsOf, WHO } from "./runs.js";

const CELL = { width: 150, height: 124, gap: 10 };
const AT_ONCE = 6;
const SEARCH_MS = 150;
const STATUSES = { ok: "with features", failed: "failed", silent: "silent", repeated: "repeated", mostly: "mostly repetition", pending: "not built yet" };
const OF_REPETITION = ["repeated", "mostly"];

export function gridView(dataset, place, site) {
  return new Grid(dataset, place, site);
}

/** Return the run that a query names; null if it names none. */
export const runOf = (dataset, query) => dataset.runs.runs.find(({ key }) => key === query.run) ?? null;

/** Return the rows that a query chooses, in its order. */
export function chosenRows(dataset, query) {
  const pair = query.pair === undefined ? undefined : dataset.runs.comparisons[Number(query.pair)];
  const rows = pair?.clips ? rowsOf(pair, query.who) : undefined;
  return dataset.clips.choose({ ...query, rows }, runOf(dataset, query));
}

function words(pair, who) {
  return { "only first": `only ${pair.first}`, "only second": `only ${pair.second}` }[who] ?? `${WHO.includes(who) ? who : "any"} of ${pair.first} and ${pair.second}`;
}

function verdict({ clips }, run, row) {
  const as = run.predicted[row];
  if (as === null) return h("span", {}, "not held out");
  const share = run.p_predicted[row].toFixed(2);
  if (run.right[row]) return h("span", { class: "right" }, run.multilabel ? "right" : `right, ${share}`);
  const mark = run.multilabel && clips.labels[row].includes(as) ? "misses " : "→ ";
  return h("span", { class: "wrong" }, mark, name(clips.classes[as]), ` ${share}`);
}

class Grid {
  constructor(dataset, place, site) {
    Object.assign(this, { dataset, place, site, focus: 0, wanted: [], loading: 0, turn: 0 });
    this.groups = new Kept((group) => getBytes(`${this.dataset.key}/thumbnails/${group}.bin`), 400);
    this.count = h("output", { class: "count", role: "status" });
    this.inner = h("div", { class: "rows", role: "presentation" });
    this.outer = h("div", { class: "grid", role: "grid", tabindex: 0, "aria-label": "Clips", onscroll: () => this.draw(), onkeydown: (event) => this.move(event) }, this.inner);
    this.audio = h("audio", { preload: "none" });
    this.search = h("input", { type: "search", name: "q", placeholder: "id, path, class, recording", oninput: () => this.searchSoon() });
    this.filters = h("div", { class: "filters" });
    this.toolbar = h("form", { class: "toolbar", onsubmit: (event) => event.preventDefault() }, h("label", { class: "search" }, h("span", {}, "Search"), this.search), this.filters, this.count);
    this.message = h("div", { "aria-live": "polite" });
    this.element = h("section", { class: "clips" }, h("h1", { class: "hidden" }, "Clips"), this.toolbar, this.message, this.outer, this.audio);
    this.sizes = new ResizeObserver(() => this.draw(true));
    this.drawToolbar();
  }

  opened() {
    this.sizes.observe(this.outer);
    this.choose();
  }

  close() {
    this.turn += 1;
    this.asked = null;
    clearTimeout(this.timer);
    this.sizes.disconnect();
    this.audio.pause();
  }

  accepts(place, dataset) {
    return place.view === "clips" && dataset === this.dataset;
  }

  update(place) {
    this.place = place;
    this.drawToolbar();
    this.choose();
  }

  /** Show what has been built meanwhile; the place and the filter stay. */
  refresh(dataset) {
    this.dataset = dataset;
    this.groups.results.clear();
    this.drawToolbar();
    this.choose(false);
  }

  /** Show the rows that the address chooses, as soon as they are known. */
  async choose(top = true) {
    const turn = (this.turn += 1);
    const { clips } = this.dataset;
    if (top) this.message.replaceChildren();
    if (OF_REPETITION.includes(this.place.query.status) && !clips.period_s) {
      const goesOn = () => turn === this.turn;
      try {
        if (!(await findRepetition(this.dataset, (text) => (this.count.textContent = text), goesOn))) return;
      } catch (error) {
        if (goesOn()) this.message.replaceChildren(problem(error));
      }
      if (!goesOn()) return;
    }
    const last = top ? this.dataset.last : this.rows?.[this.focus];
    this.rows = chosenRows(this.dataset, this.place.query);
    this.focus = Math.max(0, this.rows.indexOf(last ?? -1));
    this.dataset.chosen = this.rows;
    this.count.textContent = `${number(this.rows.length)} of ${number(clips.size)} clips`;
    if (top) {
      if (!this.rows.length && !this.message.firstChild) this.message.replaceChildren(h("p", { class: "line" }, "No clip is like this."));
      this.outer.scrollTop = 0;
    }
    this.draw(true);
    if (top && this.focus) this.reveal();
  }

  /** Choose by the address, so that it leads to the same clips again. */
  set(changes) {
    location.replace(address({ ...this.place, item: undefined }, { ...this.place.query, ...changes }));
  }

  searchSoon() {
    clearTimeout(this.timer);
    const q = this.search.value;
    this.timer = setTimeout(() => this.set({ q }), SEARCH_MS);
  }

  drawToolbar() {
    const { query } = this.place;
    const { collection } = this.dataset;
    if (document.activeElement !== this.search) this.search.value = query.q ?? "";
    const select = (field, label, options) =>
      h("label", {}, h("span", {}, label), h("select", { name: field, onchange: (event) => this.set({ [field]: event.target.value }) }, options));
    const any = (label, field) => option("", label, query[field] ?? "");
    const failures = Object.values(collection.statuses).filter((status) => collection.counts[status.name] && !STATUSES[status.name]);
    const { runs, comparisons } = this.dataset.runs;
    const run = runOf(this.dataset, query);
    const pair = comparisons[Number(query.pair ?? -1)];
    const leaveOut = (changes) => {
      this.outer.focus({ preventScroll: true }); // the button goes
      this.set(changes);
    };
    const chips = ["recording", "predicted"].filter((field) => query[field] !== undefined).map((field) => [field, `${field}: ${shown(query[field])}`, { [field]: "" }]);
    if (pair?.clips) chips.push(["pair", shown(`right: ${words(pair, query.who)}`), { pair: "", who: "" }]);
    redraw(this.filters, [
      select("class", "Class", [any("all", "class"), ...collection.card.class_names.map((text) => option(text, shown(text), query.class))]),
      select("fold", "Fold", [any("all", "fold"), ...collection.folds.map(({ fold, name: label }) => option(fold, shown(label), query.fold))]),
      select("status", "Status", [any("all", "status"), ...Object.entries(STATUSES).map(([key, label]) => option(key, label, query.status)), ...failures.map((status) => option(status.name, status.reason, query.status))]),
      ...(runs.length ? [select("run", "Run", [any("none", "run"), ...runs.map((one) => option(one.key, shown(one.label), query.run))])] : []),
      ...(run ? [select("outcome", "Outcome", [any("all", "outcome"), option("right", "right", query.outcome), option("wrong", "wrong", query.outcome)])] : []),
      select("sort", "Order", Object.entries(SORTS).filter(([key]) => key !== "suspect" || run).map(([key, label]) => option(key === "store" ? "" : key, label, query.sort ?? ""))),
      h("label", { class: "tick" }, h("input", { type: "checkbox", name: "down", checked: Boolean(query.down), onchange: (event) => this.set({ down: event.target.checked ? 1 : "" }) }), h("span", {}, "descending")),
      ...chips.map(([field, text, changes]) => h("button", { type: "button", name: field, class: "chip", "aria-label": `Leave out: ${text}`, onclick: () => leaveOut(changes) }, `${text} ✕`)),
    ]);
  }

  get columns() {
    return Math.max(1, Math.floor((this.outer.clientWidth - CELL.gap) / (CELL.width + CELL.gap)));
  }

  /** Put the cells into the page that can be seen, and those of a screen around. */
  draw(again = false) {
    if (!this.rows) return;
    const { columns } = this;
    const step = CELL.height + CELL.gap;
    const lines = Math.ceil(this.rows.length / columns);
    const first = Math.max(0, Math.floor(this.outer.scrollTop / step) - 2);
    const last = Math.min(lines, Math.ceil((this.outer.scrollTop + this.outer.clientHeight) / step) + 2);
    const state = `${columns} ${first} ${last}`;
    if (state === this.drawn && !again) return;
    this.drawn = state;
    this.outer.setAttribute("aria-rowcount", lines);
    this.outer.setAttribute("aria-colcount", columns);
    this.inner.style.height = `${lines * step + CELL.gap}px`;
    const active = this.inner.contains(document.activeElement);
    const drawn = [];
    for (let line = first; line < last; line += 1) {
      const places = [];
      for (let at = line * columns; at < Math.min((line + 1) * columns, this.rows.length); at += 1) places.push(at);
      const width = this.outer.clientWidth - CELL.gap;
      const row = h("div", { id: `line-${line}`, class: "row", role: "row", "aria-rowindex": line + 1 }, places.map((at) => this.cell(at, columns, width)));
      row.style.transform = `translateY(${line * step + CELL.gap}px)`;
      drawn.push(row);
    }
    redraw(this.inner, drawn);
    if (active && !this.inner.contains(document.activeElement)) this.inner.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
    const cells = [...this.inner.querySelectorAll(".cell")];
    const wanted = cells.map((cell) => ({ row: Number(cell.dataset.row), image: cell.querySelector("canvas") }));
    this.wanted = wanted.filter(({ row }) => this.dataset.clips.status[row] === 1);
    this.load();
  }

  cell(at, columns, width) {
    const row = this.rows[at];
    const { clips, collection } = this.dataset;
    const status = clips.status[row];
    const href = this.link(row);
    const run = runOf(this.dataset, this.place.query);
    const words = status === 1 ? null : h("span", { class: "status" }, collection.statuses[status].name.replace("_", " "));
    const said = run ? verdict(this.dataset, run, row) : null;
    const label = [shown(clips.className(row)), shown(clips.clip_id[row]), words?.textContent, said?.textContent].filter(Boolean).join(", ");
    const cell = h(
      "div",
      { id: `clip-${row}`, class: "cell", role: "gridcell", "aria-colindex": (at % columns) + 1, "data-row": row },
      h("a", { href, tabindex: at === this.focus ? 0 : -1, "aria-label": label, onfocus: () => (this.focus = this.rows.indexOf(row)) }, h("canvas", { "aria-hidden": "true" }), words, h("b", {}, name(clips.className(row))), said ?? h("span", {}, name(clips.clip_id[row]))),
      this.site.sounds && status === 1 ? h("button", { type: "button", name: String(row), class: "play", tabindex: -1, "aria-label": `Play ${shown(clips.clip_id[row])}`, onclick: () => this.play(row) }, "▶") : null,
    );
    cell.style.width = `${(width - CELL.gap * columns) / columns}px`;
    return cell;
  }

  link(row) {
    return address({ ...this.place, view: "clip", item: String(row) }, this.place.query);
  }

  /** Get the tiles of the cells that are in the page now, a few at a time. */
  load() {
    while (this.loading < AT_ONCE && this.wanted.length) {
      const { row, image } = this.wanted.shift();
      if (!image.isConnected) continue;
      this.loading += 1;
      this.thumbnail(row, image).finally(() => {
        this.loading -= 1;
        this.load();
      });
    }
  }

  async thumbnail(row, image) {
    const { shape, group } = this.dataset.collection.thumbnail;
    try {
      const bytes = await this.groups.get(String(Math.floor(row / group)));
      paint(image, new Uint8Array(bytes), (row % group) * shape[0] * shape[1], shape, 255, MAPS.magma);
      image.dataset.drawn = row;
    } catch (error) {
      image.replaceWith(h("span", { class: "status bad", title: error.message }, "damaged"));
      this.message.replaceChildren(problem(error));
    }
  }

  /** Play a clip, or end it if it plays; of several asked for quickly, the last. */
  async play(row) {
    const plays = this.asked === row && !this.audio.paused;
    this.audio.pause();
    this.asked = plays ? null : row;
    if (plays) return;
    try {
      await getJSON(`${this.dataset.key}/sounds/${row}.json`);
      if (this.asked !== row) return;
      this.audio.src = `${this.dataset.key}/sounds/${row}.wav`;
      await this.audio.play();
      this.message.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError" && this.asked === row) this.message.replaceChildren(problem(error));
    }
  }

  /** Move the focus through the grid, as screen readers expect of one. */
  move(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: 4 * this.columns, PageUp: -4 * this.columns, Home: -Infinity, End: Infinity };
    if (event.key === " " && this.rows.length && this.site.sounds) {
      this.play(this.rows[this.focus]);
    } else if (event.key in steps) {
      this.focus = Math.max(0, Math.min(this.rows.length - 1, this.focus + steps[event.key]));
      this.reveal();
      this.draw(true);
      this.inner.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  reveal() {
    const step = CELL.height + CELL.gap;
    const top = Math.floor(this.focus / this.columns) * step;
    const { scrollTop, clientHeight } = this.outer;
    if (top < scrollTop) this.outer.scrollTop = top;
    else if (top + step > scrollTop + clientHeight) this.outer.scrollTop = top + step + CELL.gap - clientHeight;
  }

  key(event) {
    if (event.key !== "/") return false;
    this.search.focus();
    return true;
  }
}
