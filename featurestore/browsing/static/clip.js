// One clip: its waveform, every array on one time scale, its sound with a cursor in step, a detail.

import { getBytes, getJSON } from "./api.js";
import { address } from "./address.js";
import { hzAt } from "./axes.js";
import { MAPS, paintBar } from "./colors.js";
import { decibels, duration, h, name, number, option, problem, refill, shown } from "./dom.js";
import { chosenRows } from "./grid.js";
import { Detail, ImagePanel, LinePanel, Scale, WavePanel } from "./panels.js";
import { verdicts } from "./runs.js";

const WAV_HEADER = 44; // bytes, as `sounds` writes them
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];
const KEYS = [
  ["space", "play or pause"],
  ["← →", "previous, next clip"],
  ["L", "loop"],
  ["+ −", "zoom in time"],
  ["0", "the whole clip"],
  [", .", "a tenth of a second back, forward"],
  ["G", "grey or magma"],
  ["Esc", "back to the clips"],
];

export function clipView(dataset, place, site) {
  return new ClipView(dataset, place, site);
}

class ClipView {
  constructor(dataset, place, site) {
    Object.assign(this, { dataset, place, site });
    this.row = Number(place.item);
    const { clips } = dataset;
    if (!Number.isInteger(this.row) || !(this.row >= 0 && this.row < clips.size)) throw new Error(`There is no clip number ${place.item}.`);
    dataset.last = this.row;
    this.title = clips.clip_id[this.row];
    this.order = dataset.chosen?.includes(this.row) ? dataset.chosen : chosenRows(dataset, place.query);
    this.element = h("section", { class: "clip" });
    this.panels = [];
    const follow = () => this.follow();
    this.audio = h("audio", { preload: "auto", onplay: follow, onpause: follow, onseeked: follow });
    this.message = h("div", { "aria-live": "polite" });
    this.rowText = h("pre", { tabindex: 0 });
    this.unfolded = [
      h("details", { class: "row" }, h("summary", {}, "Its row as JSON"), this.rowText, h("p", {}, h("a", { href: `${dataset.key}/clips/${this.row}.json`, target: "_blank", rel: "noopener" }, "the same as a file"))),
      h("details", {}, h("summary", {}, "Keys"), h("dl", { class: "keys" }, KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]))),
    ];
    this.readout = h("output", { class: "readout", "aria-live": "off" });
    this.sizes = new ResizeObserver(() => this.drawAll());
    this.build();
  }

  opened() {
    this.load();
  }

  close() {
    this.gone = true;
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  accepts(place, dataset) {
    return place.view === "clip" && Number(place.item) === this.row && dataset.clips === this.dataset.clips;
  }

  update(place) {
    this.place = place;
  }

  /** Show what has been built meanwhile; a clip that is shown stays as it is. */
  refresh(dataset) {
    const { row } = this;
    const before = this.dataset.clips.status[row];
    this.dataset = dataset;
    if (dataset.clips.status[row] === before) return;
    this.message.replaceChildren();
    this.build();
    this.load();
  }

  themed() {
    this.drawAll();
  }

  link(row) {
    return address({ ...this.place, item: String(row) }, this.place.query);
  }

  build() {
    const { clips, collection } = this.dataset;
    const { row } = this;
    const at = this.order.indexOf(row);
    const [before, after] = [this.order[at - 1], this.order[at + 1]];
    const step = (to, label, arrow) => (to === undefined ? h("span", { class: "button off" }, arrow) : h("a", { class: "button", href: this.link(to), "aria-label": label, rel: label.split(" ")[0].toLowerCase() }, arrow));
    const fold = collection.folds.find((one) => one.fold === clips.fold[row]);
    const reason = collection.statuses[clips.status[row]].reason;
    const facts = [
      [clips.labels ? "labels" : "class", clips.className(row)],
      ["fold", fold.name],
      ["duration", clips.duration_s[row] === null ? null : duration(clips.duration_s[row])],
      [`peak at ${collection.spec.sample_rate / 1000} kHz`, clips.peak[row] ? decibels(20 * Math.log10(clips.peak[row])) : clips.peak[row] === 0 ? "silent" : null],
      ["recording", clips.source[row]],
      ["path", clips.path[row]],
      ["status", clips.status[row] === 1 ? null : reason],
    ];
    this.stage = h("div", { class: "stage" });
    this.said = h("div");
    refill(
      this.element,
      h(
        "div",
        { class: "head" },
        h("h1", {}, name(clips.clip_id[row])),
        h("nav", { class: "steps", "aria-label": "Clips" }, step(before, "Previous clip", "←"), h("a", { class: "button", href: address({ ...this.place, view: "clips", item: "" }, this.place.query) }, `${number(at + 1)} of ${number(this.order.length)}`), step(after, "Next clip", "→")),
      ),
      h("dl", { class: "chips" }, facts.filter(([, value]) => value !== null && value !== "").map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, name(value))))),
      this.message,
      this.stage,
      this.said,
      ...this.unfolded,
      this.audio,
    );
  }

  async load() {
    const { key, clips } = this.dataset;
    const { row } = this;
    try {
      const facts = await getJSON(`${key}/clips/${row}.json`);
      if (this.gone || clips.status[row] !== this.dataset.clips.status[row]) return; // built meanwhile
      this.facts = facts;
      this.rowText.textContent = JSON.stringify(this.facts.row, null, 2);
      if (clips.status[row] !== 1) {
        this.message.replaceChildren(problem(`No features: ${this.facts.row.reason}.`));
        return;
      }
      const bytes = await getBytes(`${key}/clips/${row}.bin`);
      if (this.gone) return;
      this.values = new Uint16Array(bytes);
      this.compose(null);
    } catch (error) {
      this.message.replaceChildren(problem(error));
    }
    this.judge();
    if (!this.site.sounds) return;
    try {
      const sound = await getJSON(`${key}/sounds/${row}.json`);
      if (this.gone) return;
      this.audio.src = `${key}/sounds/${row}.wav`;
      this.sound = sound;
      if (this.values) this.compose(sound);
      else this.audio.controls = true; // damaged images: the sound can still be heard
    } catch (error) {
      if (!this.gone) this.message.append(problem(`No sound: ${error.message}`));
    }
  }

  /** Return the samples of its sound. */
  async samples() {
    try {
      return new Int16Array(await getBytes(`${this.dataset.key}/sounds/${this.row}.wav`), WAV_HEADER);
    } catch (error) {
      this.message.replaceChildren(problem(error));
      return null;
    }
  }

  /** Add what the runs say of the clip. */
  async judge() {
    if (!this.dataset.runs.runs.length) return;
    try {
      const said = await getJSON(`${this.dataset.key}/probabilities/${this.row}.json`);
      this.said.replaceChildren(verdicts(this.dataset, this.row, said));
    } catch (error) {
      this.said.replaceChildren(problem(error));
    }
  }

  /** Make the panels; again once it is known when the images begin in the sound. */
  compose(sound) {
    const { arrays } = this.dataset.collection;
    const start = sound ? sound.trimmed_s[0] : 0;
    const longest = Math.max(...arrays.map((array) => array.seconds));
    const before = this.scale;
    this.scale = new Scale(Math.max(start + longest, sound?.seconds ?? 0));
    if (before && before.shown < before.total) this.scale.go(before.from, before.shown);
    Object.assign(this.scale, { start_s: start, period_s: this.facts.period_s, map: sessionStorage.getItem("map") ?? "magma" });
    const on = {
      point: (time, up, panel) => this.point(time, up, panel),
      leave: () => (this.readout.textContent = this.hint),
      click: (time) => this.seek(time, true),
      drag: (a, b, panel) => this.select(a, b, panel),
      zoom: (factor, time) => this.zoom(factor, time),
    };
    this.arrays = this.facts.arrays.map((facts) => {
      const array = { ...arrays.find((one) => one.name === facts.name), range: facts.range };
      const panel = array.shape.length > 1 ? ImagePanel : LinePanel;
      return new panel(this.scale, array, this.values, facts.offset, array.shape[0] > 100 ? 170 : 130, on);
    });
    this.images = this.arrays.filter((panel) => panel instanceof ImagePanel);
    this.panels = [...(sound ? [new WavePanel(this.scale, sound, on, () => this.samples())] : []), ...this.arrays];
    this.region ??= this.facts.detail;
    this.hint = sound ? "Click to play from there; drag to choose the detail." : "Drag to choose the detail.";
    this.readout.textContent = this.hint;
    this.stage.replaceChildren(this.controls(sound), this.readout, h("div", { class: "panels" }, this.panels.map((panel) => panel.element)), this.pan(), this.details());
    this.images.forEach((panel) => panel.paint());
    this.sizes.disconnect();
    this.sizes.observe(this.stage);
    this.drawAll();
  }

  controls(sound) {
    this.playButton = h("button", { type: "button", class: "button main", onclick: () => this.toggle() }, "▶ Play");
    this.loopBox = h("input", { type: "checkbox", checked: this.audio.loop, onchange: (event) => (this.audio.loop = event.target.checked) });
    this.clock = h("span", { class: "clock" }, "0.00 s");
    const speed = h("select", { "aria-label": "Speed", onchange: (event) => this.speed(Number(event.target.value)) }, SPEEDS.map((value) => option(value, `${value}×`, this.audio.playbackRate)));
    const map = h("select", { class: "map", "aria-label": "Colours", onchange: (event) => this.recolor({ map: event.target.value }) }, ["magma", "grey"].map((value) => option(value, value, this.scale.map)));
    this.bar = h("canvas", { role: "img", "aria-label": "Colours from the lowest to the highest value of the range" });
    const bound = (side, label) =>
      h("label", {}, h("span", {}, label), h("input", { type: "range", min: 0, max: 100, value: 100 * this.scale.range[side], "aria-label": `${label} end of the colours, percent of the range`, oninput: (event) => this.bound(side, event.target.value / 100) }));
    const zoom = (label, factor, text) => h("button", { type: "button", class: "button", "aria-label": label, onclick: () => this.zoom(factor, this.middle) }, text);
    return h(
      "div",
      { class: "toolbar" },
      sound ? [this.playButton, h("label", { class: "tick" }, this.loopBox, h("span", {}, "loop")), h("label", {}, h("span", {}, "Speed"), speed), this.clock] : null,
      h("span", { class: "group" }, zoom("Zoom in", 0.5, "+"), zoom("Zoom out", 2, "−"), h("button", { type: "button", class: "button", onclick: () => this.zoom(1e9, 0) }, "Whole")),
      h("label", {}, h("span", {}, "Colours"), map),
      bound(0, "Low"),
      h("span", { class: "key" }, this.bar),
      bound(1, "High"),
    );
  }

  pan() {
    this.slider = h("input", { type: "range", class: "pan", min: 0, max: 1000, value: 0, "aria-label": "Part of the clip that is shown", oninput: (event) => {
      this.scale.go((event.target.value / 1000) * (this.scale.total - this.scale.shown));
      this.drawAll();
    } });
    return this.slider;
  }

  details() {
    const names = this.images.map((panel) => panel.array.name);
    const chosen = this.chosen ?? [names[0], names.length > 2 ? names[1] : names[names.length - 1]];
    this.chosen = chosen;
    const on = { move: (seconds, up) => this.moveRegion(seconds, up), size: (factor) => this.sizeRegion(factor) };
    this.closeups = chosen.map((of, side) => new Detail(this.scale, `Detail of ${of}`, on));
    const pick = (side) =>
      h("select", { "aria-label": `Array of the ${side ? "right" : "left"} detail`, onchange: (event) => {
        this.chosen[side] = event.target.value;
        this.drawDetails();
      } }, names.map((of) => option(of, shown(of), chosen[side])));
    return h("section", { class: "details" }, h("h2", {}, "The same detail in two arrays"), h("div", { class: "pair" }, this.closeups.map((closeup, side) => h("figure", {}, h("figcaption", {}, closeup.unit, pick(side)), closeup.surface))));
  }

  drawAll() {
    if (!this.panels.length) return;
    for (const panel of this.panels) panel.draw();
    paintBar(this.bar, MAPS[this.scale.map], this.scale.range);
    this.drawDetails();
    this.showCursor();
    const room = this.scale.total - this.scale.shown;
    this.slider.hidden = room < 1e-6;
    if (!this.slider.hidden) this.slider.value = (1000 * this.scale.from) / room;
  }

  drawDetails() {
    for (const panel of this.images) panel.mark(this.region);
    this.closeups.forEach((closeup, side) => closeup.draw(this.images.find((panel) => panel.array.name === this.chosen[side]), this.region));
  }

  select(a, b, panel) {
    if (!(panel instanceof ImagePanel)) return;
    const times = [a.time, b.time].map((time) => Math.min(panel.array.seconds, Math.max(0, time - this.scale.start_s)));
    const bands = [a.up, b.up].map((up) => Math.min(1, Math.max(0, up)));
    const [start_s, stop_s] = [Math.min(...times), Math.max(...times)];
    const [low, high] = [Math.min(...bands), Math.max(...bands)];
    if (stop_s - start_s < 0.02 || high - low < 0.02) return;
    this.region = { start_s, stop_s, low, high };
    this.drawDetails();
  }

  moveRegion(seconds, up) {
    const { region } = this;
    const longest = Math.max(...this.images.map((panel) => panel.array.seconds));
    const right = Math.min(longest - region.stop_s, Math.max(-region.start_s, seconds));
    const higher = Math.min(1 - region.high, Math.max(-region.low, up));
    this.region = { start_s: region.start_s + right, stop_s: region.stop_s + right, low: region.low + higher, high: region.high + higher };
    this.drawDetails();
  }

  sizeRegion(factor) {
    const { region } = this;
    const longest = Math.max(...this.images.map((panel) => panel.array.seconds));
    const grow = (from, to, most) => {
      const size = Math.min(most, Math.max(most / 50, (to - from) * factor));
      const start = Math.max(0, Math.min(most - size, (from + to - size) / 2));
      return [start, start + size];
    };
    const [start_s, stop_s] = grow(region.start_s, region.stop_s, longest);
    const [low, high] = grow(region.low, region.high, 1);
    this.region = { start_s, stop_s, low, high };
    this.drawDetails();
  }

  point(time, up, panel) {
    const words = [`${time.toFixed(3)} s`];
    if (panel instanceof LinePanel) {
      const value = panel.value(time);
      words.push(value === null ? "not in this array" : `${panel.array.name} ${value.toFixed(3)}`);
    } else if (panel instanceof ImagePanel) {
      const { bands_hz: centres, shape } = panel.array;
      words.push(centres ? `${Math.round(hzAt(centres, up))} Hz` : `row ${Math.floor(up * shape[0])}`);
      const value = panel.value(time, up);
      words.push(value === null ? "not in this array" : `${panel.array.name} ${value.toPrecision(3)}`);
    }
    this.readout.textContent = words.join(" · ");
  }

  recolor(change) {
    Object.assign(this.scale, change);
    sessionStorage.setItem("map", this.scale.map);
    this.images.forEach((panel) => panel.paint());
    this.drawAll();
  }

  bound(side, share) {
    const range = [...this.scale.range];
    range[side] = side ? Math.max(share, range[0] + 0.01) : Math.min(share, range[1] - 0.01);
    this.recolor({ range });
  }

  get middle() {
    const time = this.audio.currentTime;
    const { from, to } = this.scale;
    return this.sound && time > from && time < to ? time : (from + to) / 2;
  }

  zoom(factor, around) {
    if (!this.scale) return;
    this.scale.zoom(this.scale.shown * factor, around);
    this.drawAll();
  }

  speed(rate) {
    Object.assign(this.audio, { defaultPlaybackRate: rate, playbackRate: rate, preservesPitch: true });
  }

  async seek(time, play = false) {
    if (!this.sound) return;
    this.audio.currentTime = Math.min(this.sound.seconds, Math.max(0, time));
    this.showCursor();
    if (play && time < this.sound.seconds) await this.start();
  }

  async start() {
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this.message.replaceChildren(problem(`No sound: ${error.message}`));
    }
  }

  toggle() {
    if (!this.sound) return;
    if (this.audio.paused) this.start();
    else this.audio.pause();
  }

  /** Keep the cursor where the sound is: as long as it plays, once per picture of the screen. */
  follow() {
    cancelAnimationFrame(this.frame);
    if (!this.playButton || this.gone) return;
    const { audio, scale } = this;
    const label = audio.paused ? "▶ Play" : "❚❚ Pause";
    if (this.playButton.textContent !== label) this.playButton.textContent = label;
    if (!audio.paused) {
      if (audio.currentTime > scale.to || audio.currentTime < scale.from) {
        scale.go(audio.currentTime);
        this.drawAll();
      }
      this.frame = requestAnimationFrame(() => this.follow());
    }
    this.showCursor();
  }

  showCursor() {
    const time = this.sound ? this.audio.currentTime : -1;
    for (const panel of this.panels) panel.show(time);
    if (this.sound) this.clock.textContent = `${time.toFixed(2)} of ${this.sound.seconds.toFixed(2)} s`;
  }

  key(event) {
    const at = this.order.indexOf(this.row);
    const go = (row) => row !== undefined && (location.hash = this.link(row));
    const { audio } = this;
    const actions = {
      " ": () => this.toggle(),
      ArrowLeft: () => go(this.order[at - 1]),
      ArrowRight: () => go(this.order[at + 1]),
      l: () => (this.loopBox.checked = audio.loop = !audio.loop),
      "+": () => this.zoom(0.5, this.middle),
      "=": () => this.zoom(0.5, this.middle),
      "-": () => this.zoom(2, this.middle),
      0: () => this.zoom(1e9, 0),
      ",": () => this.seek(audio.currentTime - 0.1),
      ".": () => this.seek(audio.currentTime + 0.1),
      g: () => {
        const map = this.scale.map === "grey" ? "magma" : "grey";
        this.recolor({ map });
        this.element.querySelector(".map").value = map;
      },
      Escape: () => (location.hash = address({ ...this.place, view: "clips", item: "" }, this.place.query)),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const onButton = event.target.closest?.("button, a") && (event.key === " " || event.key === "Enter");
    if (!action || onButton) return false;
    action();
    return true;
  }
}
