// The page's frame: which view an address shows, the bar, keys, and what changes while one looks.

import { getJSON } from "./api.js";
import { Clips } from "./clips.js";
import { clipView } from "./clip.js";
import { collectionView } from "./collection.js";
import { h, name, problem } from "./dom.js";
import { gridView } from "./grid.js";
import { runsView } from "./runs.js";
import { storesView } from "./stores.js";

const POLL_MS = 2000;
const THEMES = ["auto", "light", "dark"];

/** Return the parts of an address: `#/STORE/DATASET/VIEW/ITEM?query`. */
export function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [store, dataset, view, item] = path.split("/").map(decodeURIComponent);
  return { store, dataset, view: view || "collection", item, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the address of a view; parts of the query that are empty are left out. */
export function address({ store, dataset, view, item }, query = {}) {
  const path = [store, dataset, view, item].filter((part) => part !== undefined && part !== "");
  const pairs = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(pairs).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

class App {
  constructor() {
    this.main = document.getElementById("main");
    this.bar = document.getElementById("bar");
    this.opened = null;
    this.view = null;
    this.site = null;
  }

  async start() {
    this.theme(localStorage.getItem("theme") ?? "auto");
    addEventListener("hashchange", () => this.route());
    addEventListener("keydown", (event) => this.key(event));
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
    if (!place.store && !this.site.several && only?.datasets.length === 1) {
      location.replace(address({ store: only.key, dataset: only.datasets[0].name }));
      return;
    }
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const dataset = place.dataset ? await this.dataset(place) : null;
      if (turn !== this.turn) return;
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
    if (!dataset) return storesView(this.site);
    if (place.view === "clips") return gridView(dataset, place, this.site);
    if (place.view === "clip") return clipView(dataset, place, this.site);
    if (place.view === "runs" && dataset.runs.runs.length) return runsView(dataset, place);
    return collectionView(dataset, place);
  }

  /** Return the dataset of a place, with its table; the one that is open if it is the same. */
  async dataset({ store, dataset }, fresh = false) {
    const key = `data/${encodeURIComponent(store)}/${encodeURIComponent(dataset)}`;
    if (this.opened?.key === key && !fresh) return this.opened;
    const collection = await getJSON(`${key}/collection.json`);
    if (this.opened?.key === key && this.opened.collection.revision === collection.revision) {
      return this.opened;
    }
    const clips = new Clips(await getJSON(`${key}/clips.json`), collection);
    const runs = this.site.runs ? await getJSON(`${key}/runs.json`) : { runs: [], comparisons: [] };
    this.opened = { key, store, dataset, collection, clips, runs };
    return this.opened;
  }

  /** Look whether a store that is being built has got further. */
  async poll() {
    if (document.hidden || this.polling) return;
    const place = parse(location.hash);
    this.polling = true;
    try {
      if (!place.dataset) {
        this.site = await getJSON("data/stores.json");
        this.view?.refresh?.(this.site);
      } else if (this.opened && this.opened.collection.state !== "complete") {
        const before = this.opened;
        const now = await this.dataset(place, true);
        if (now !== before && this.opened === now) this.view?.refresh?.(now);
      }
    } catch (error) {
      if (!place.dataset) this.main.replaceChildren(problem(error));
    } finally {
      this.polling = false;
    }
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
    document.title = [known?.name, dataset && view].filter(Boolean).join(" · ") || "featurestore";
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
