// The page's frame: which view an address shows, the bar, keys, and what changes while one looks.

import { address, parse } from "./address.js";
import { getJSON } from "./api.js";
import { Clips } from "./clips.js";
import { clipView } from "./clip.js";
import { collectionView } from "./collection.js";
import { h, name, problem, shown } from "./dom.js";
import { gridView } from "./grid.js";
import { runsView } from "./runs.js";
import { storesView } from "./stores.js";

const POLL_MS = 2000;
const THEMES = ["auto", "light", "dark"];

class App {
  constructor() {
    this.main = document.getElementById("main");
    this.bar = document.getElementById("bar");
    this.notice = document.getElementById("notice");
    this.opened = null;
    this.view = null;
    this.site = null;
    this.turn = 0;
  }

  async start() {
    this.theme(localStorage.getItem("theme") ?? "auto");
    addEventListener("hashchange", () => this.route());
    addEventListener("keydown", (event) => this.key(event));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // what follows `#` are views here
      this.main.focus();
    });
    try {
      this.site = await getJSON("data/stores.json");
    } catch (error) {
      this.main.replaceChildren(problem(error));
      return;
    }
    if (!this.site.exported) setInterval(() => this.poll(), POLL_MS);
    await this.route();
  }

  async route() {
    const place = parse(location.hash);
    const only = this.site.stores[0];
    if (!place.store && place.view === "collection" && !this.site.several && only?.datasets.length === 1) {
      location.replace(address({ store: only.key, dataset: only.datasets[0].name }));
      return;
    }
    const turn = (this.turn += 1);
    try {
      const dataset = place.dataset ? await this.dataset(place) : null;
      if (turn !== this.turn) return;
      if (dataset) this.opened = dataset;
      if (this.view?.accepts?.(place, dataset)) {
        this.view.update(place);
      } else {
        const first = !this.view;
        this.view?.close?.();
        this.view = this.make(place, dataset);
        this.main.replaceChildren(this.view.element);
        this.view.opened?.();
        scrollTo(0, 0);
        // So that a screen reader reads the new view, and keys go on from its start.
        if (!first) this.main.focus({ preventScroll: true });
      }
    } catch (error) {
      if (turn !== this.turn) return;
      this.view?.close?.();
      this.view = null;
      this.main.replaceChildren(problem(error));
    }
    this.drawBar(place);
  }

  make(place, dataset) {
    const views = { collection: collectionView, clips: gridView, clip: clipView, runs: runsView };
    const view = Object.hasOwn(views, place.view) ? views[place.view] : null;
    if (!view) throw new Error("This address leads to nothing here.");
    if (!dataset) return storesView(this.site);
    if (view === runsView && !dataset.runs.runs.length) throw new Error("No run is shown: start `featurestore browse` with --run.");
    return view(dataset, place, this.site);
  }

  /** Return the dataset of a place, with its table; the one that is open if it is the same. */
  async dataset({ store, dataset }, fresh = false) {
    const key = `data/${encodeURIComponent(store)}/${encodeURIComponent(dataset)}`;
    const before = this.opened?.key === key ? this.opened : null;
    if (before && !fresh) return before;
    const collection = await getJSON(`${key}/collection.json`);
    if (before?.collection.revision === collection.revision) return before;
    const clips = new Clips(await getJSON(`${key}/clips.json`), collection);
    const runs = this.site.runs ? await getJSON(`${key}/runs.json`) : { runs: [], comparisons: [] };
    return { key, store, dataset, collection, clips, runs, last: before?.last };
  }

  /** Look whether a store that is being built has got further, and whether one can look at all. */
  async poll() {
    if (document.hidden || this.polling) return;
    this.polling = true;
    try {
      await this.refresh(parse(location.hash), this.turn);
      this.notice.replaceChildren();
    } catch (error) {
      const text = shown(error.message);
      if (this.notice.textContent !== text) this.notice.replaceChildren(problem(text));
    } finally {
      this.polling = false;
    }
  }

  /** Show what has changed, unless another view was opened meanwhile. */
  async refresh(place, turn) {
    if (!place.dataset) {
      this.site = await getJSON("data/stores.json");
      if (turn === this.turn) this.view?.refresh?.(this.site);
    } else if (this.shows(place) && this.opened.collection.state !== "complete") {
      const now = await this.dataset(place, true);
      if (turn !== this.turn || now === this.opened) return;
      this.opened = now;
      this.view?.refresh?.(now);
    }
  }

  /** Whether the dataset of a place is open, and not still asked for. */
  shows({ store, dataset }) {
    return this.opened?.store === store && this.opened.dataset === dataset;
  }

  drawBar({ store, dataset, view }) {
    const only = this.site.stores.length === 1 && !this.site.several;
    const crumbs = [h("a", { class: "brand", href: only ? address({ store, dataset }) : "#/" }, "featurestore")];
    const known = this.site.stores.find((one) => one.key === store);
    if (store) crumbs.push(h("span", { "aria-hidden": "true" }, "›"), name(known?.name ?? store, { class: "crumb" }));
    if (dataset && known?.datasets.length > 1) crumbs.push(h("span", { "aria-hidden": "true" }, "›"), name(dataset, { class: "crumb" }));
    const tab = (to, label, at = to) => {
      const current = view === at || (view === "clip" && at === "clips");
      return h("a", { href: address({ store, dataset, view: to }), "aria-current": current ? "page" : null }, label);
    };
    const tabs = dataset ? [tab("", "Collection", "collection"), tab("clips", "Clips")] : [];
    if (dataset && this.opened?.runs.runs.length) tabs.push(tab("runs", "Runs"));
    this.bar.replaceChildren(
      h("nav", { class: "crumbs", "aria-label": "Place" }, crumbs),
      h("nav", { class: "tabs", "aria-label": "Views" }, tabs),
      h("button", { class: "theme", type: "button", onclick: () => this.nextTheme() }, `Theme: ${this.chosen}`),
    );
    document.title = [this.view?.title ?? (dataset && view), known?.name, "featurestore"].filter(Boolean).map(shown).join(" · ");
  }

  theme(choice) {
    this.chosen = THEMES.includes(choice) ? choice : "auto";
    if (this.chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.chosen;
  }

  nextTheme() {
    this.theme(THEMES[(THEMES.indexOf(this.chosen) + 1) % THEMES.length]);
    localStorage.setItem("theme", this.chosen);
    this.bar.querySelector(".theme").textContent = `Theme: ${this.chosen}`;
    this.view?.themed?.();
  }

  key(event) {
    const typing = event.target.closest?.("input, select, textarea, summary");
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
    if (this.view?.key?.(event)) event.preventDefault();
  }
}

new App().start();
