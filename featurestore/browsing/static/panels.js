// Panels of one clip on one time scale: its waveform and its arrays, with axes and a cursor.

import { drawAxis, drawSeconds, ticks } from "./axes.js";
import { MAPS, paint } from "./colors.js";
import { decibels, followPointer, h, name } from "./dom.js";

const STEPS = 65535;
const LEFT = 46;
const DRAG_PX = 5;
const COARSE_PX = 2;
const WAV_MOST = 32767;

/** What all panels share: the seconds that are shown, colours, and where the images begin. */
export class Scale {
  constructor(total) {
    Object.assign(this, { total, from: 0, to: total, start_s: 0, period_s: null, map: "magma", range: [0, 1] });
  }

  get shown() {
    return this.to - this.from;
  }

  /** Show `seconds` around a time, as far as there are any. */
  zoom(seconds, around) {
    const length = Math.min(this.total, Math.max(0.02, seconds));
    const share = (around - this.from) / this.shown;
    this.go(around - share * length, length);
  }

  go(from, length = this.shown) {
    this.from = Math.max(0, Math.min(this.total - length, from));
    this.to = this.from + length;
  }
}

/** A panel: a canvas with axes, a cursor above it, and what a pointer on it means. */
export class Panel {
  constructor(scale, title, height, on) {
    Object.assign(this, { scale, height, on });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.cursor = h("div", { class: "cursor" });
    this.selection = h("div", { class: "selection", hidden: true });
    this.surface = h("div", { class: "surface" }, this.canvas, this.selection, this.cursor);
    this.surface.style.height = `${height}px`;
    this.element = h("figure", { class: "panel" }, h("figcaption", {}, title), this.surface);
    this.surface.addEventListener("pointermove", (event) => this.on.point(this.time(event), this.up(event), this));
    this.surface.addEventListener("pointerleave", () => this.on.leave());
    this.surface.addEventListener("pointerdown", (event) => this.down(event));
    this.surface.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  get width() {
    return Math.max(1, this.surface.clientWidth - LEFT);
  }

  time(event) {
    const x = event.clientX - this.surface.getBoundingClientRect().left - LEFT;
    return this.scale.from + (x / this.width) * this.scale.shown;
  }

  /** Return the share of the height from below. */
  up(event) {
    const box = this.surface.getBoundingClientRect();
    return 1 - (event.clientY - box.top) / this.height;
  }

  x(time) {
    return LEFT + ((time - this.scale.from) / this.scale.shown) * this.width;
  }

  /** A click plays from there, a drag chooses a part. */
  down(pressed) {
    if (pressed.button !== 0) return;
    let dragged = false;
    const spot = (event) => ({ time: this.time(event), up: this.up(event) });
    const move = (event) => {
      dragged ||= Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > DRAG_PX;
      if (dragged) this.on.drag(spot(pressed), spot(event), this);
    };
    followPointer(pressed, move, () => dragged || this.on.click(this.time(pressed)));
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.on.zoom(Math.exp(event.deltaY / 300), this.time(event));
  }

  /** Make the canvas as large as it is shown, and return its context in CSS pixels. */
  clear() {
    const ratio = devicePixelRatio || 1;
    const width = this.width + LEFT;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const style = getComputedStyle(this.surface);
    this.ink = style.color;
    context.fillStyle = style.getPropertyValue("--nothing");
    context.fillRect(LEFT, 0, this.width, this.height);
    context.font = "11px system-ui, sans-serif";
    return context;
  }

  /** Put the cursor where it plays. */
  show(time) {
    const { from, to } = this.scale;
    this.cursor.hidden = time < from || time > to;
    this.cursor.style.transform = `translateX(${this.x(time)}px)`;
    this.surface.dataset.seconds = to - from;
  }

  drawTimes(context, height) {
    const [times, decimals] = ticks(this.scale.from, this.scale.to, this.width);
    context.fillStyle = this.ink;
    context.textAlign = "center";
    context.textBaseline = "top";
    drawSeconds(context, times.map((time) => [this.x(time), time.toFixed(decimals)]), [LEFT, LEFT + this.width], height);
  }
}

/** Fill, pixel by pixel, from the least to the largest of the values that lie there.
 *
 * @param ends Where the first of the values begins and the last ends, in pixels.
 * @param within The pixels to draw.
 * @param y The height of a value in pixels, from above.
 */
function drawValues(context, values, [start, end], within, y) {
  const place = (x) => Math.max(0, Math.min(values.length - 1, Math.floor(((x - start) / (end - start)) * values.length)));
  for (let x = Math.max(within[0], Math.floor(start)); x < Math.min(within[1], end); x += 1) {
    let [low, high] = [Infinity, -Infinity];
    for (let at = place(x); at <= place(x + 1); at += 1) {
      low = Math.min(low, values[at]);
      high = Math.max(high, values[at]);
    }
    context.fillRect(x, y(high), 1, Math.max(1, y(low) - y(high)));
  }
}

/** The waveform, scaled to its peak; silence that was removed is shaded. */
export class WavePanel extends Panel {
  /** @param load Gets the samples, for which it asks once its outline is too coarse. */
  constructor(scale, sound, on, load) {
    const level = sound.peak_db === null ? "silent" : `peak ${decibels(sound.peak_db)}`;
    const note = sound.scaled ? ", turned down to play" : "";
    super(scale, [h("b", {}, "waveform"), ` scaled to its peak · ${level}${note} · ${(sound.rate / 1000).toFixed(sound.rate % 1000 ? 2 : 0)} kHz`], 84, on);
    Object.assign(this, { sound, load, samples: null });
  }

  /** Get the samples once, and draw them where they are still looked at. */
  async refine() {
    const { load } = this;
    this.load = null;
    this.samples = (await load?.()) ?? this.samples;
    if (this.samples && load) this.draw();
  }

  draw() {
    const context = this.clear();
    const { low, high, seconds, trimmed_s: kept } = this.sound;
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width, this.height);
    context.clip();
    const middle = this.height / 2;
    const style = getComputedStyle(this.surface);
    context.fillStyle = style.getPropertyValue("--panel");
    context.fillRect(this.x(0), 0, this.x(seconds) - this.x(0), this.height);
    context.fillStyle = style.getPropertyValue("--wave");
    const step = seconds / low.length;
    const ends = [this.x(0), this.x(seconds)];
    const coarse = this.x(step) - this.x(0) > COARSE_PX;
    if (coarse) this.refine();
    if (coarse && this.samples) {
      const top = this.sound.scaled ? WAV_MOST : WAV_MOST * 10 ** ((this.sound.peak_db ?? 0) / 20);
      drawValues(context, this.samples, ends, [LEFT, LEFT + this.width], (value) => middle - (value / top) * (middle - 2));
    } else {
      for (let at = 0; at < low.length; at += 1) {
        const [left, right] = [this.x(at * step), this.x((at + 1) * step)];
        if (right < LEFT || left > LEFT + this.width) continue;
        const upper = middle - high[at] * (middle - 2);
        const lower = middle - low[at] * (middle - 2);
        context.fillRect(left, upper, Math.max(1, right - left), Math.max(1, lower - upper));
      }
    }
    context.fillStyle = style.getPropertyValue("--shade");
    context.fillRect(this.x(0), 0, this.x(kept[0]) - this.x(0), this.height);
    context.fillRect(this.x(kept[1]), 0, this.x(seconds) - this.x(kept[1]), this.height);
    context.restore();
    context.fillStyle = this.ink;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [text, y] of [["peak", 8], ["0", middle], ["−peak", this.height - 8]]) context.fillText(text, LEFT - 6, y);
  }
}

/** An array of the clip as an image: what it does not show of the time stays empty. */
export class ImagePanel extends Panel {
  constructor(scale, array, values, offset, height, on) {
    const [rows, columns] = array.shape;
    const unit = array.bands_hz ? h("span", { class: "unit" }, "Hz") : null;
    super(scale, [unit, h("b", {}, name(array.name)), ` ${rows} × ${columns} · ${array.seconds.toFixed(2)} s`], height, on);
    Object.assign(this, { array, values, offset, image: document.createElement("canvas") });
    this.plot = height - 20;
    this.cursor.style.height = `${this.plot}px`;
  }

  up(event) {
    const box = this.surface.getBoundingClientRect();
    return Math.min(1, Math.max(0, 1 - (event.clientY - box.top) / this.plot));
  }

  paint() {
    paint(this.image, this.values, this.offset, this.array.shape, STEPS, MAPS[this.scale.map], this.scale.range);
  }

  /** Return the value at a time of the page and a share of the height; null beside the image. */
  value(time, up) {
    const [rows, columns] = this.array.shape;
    const column = Math.floor(((time - this.scale.start_s) / this.array.seconds) * columns);
    if (column < 0 || column >= columns) return null;
    const row = Math.min(rows - 1, Math.floor(up * rows));
    const [low, high] = this.array.range;
    return low + ((high - low) * this.values[this.offset + row * columns + column]) / STEPS;
  }

  draw() {
    const context = this.clear();
    const { start_s: start, period_s: period } = this.scale;
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width, this.plot);
    context.clip();
    const [left, right] = [this.x(start), this.x(start + this.array.seconds)];
    context.drawImage(this.image, left, 0, right - left, this.plot);
    if (period !== null && this.array.is_image && period < this.array.seconds) this.markRepetition(context, start, period);
    context.restore();
    context.fillStyle = getComputedStyle(this.surface).getPropertyValue("--back");
    context.fillRect(LEFT, this.plot, this.width, this.height - this.plot);
    this.drawTimes(context, this.plot);
    drawAxis(context, this.array, [0, 1], LEFT, this.plot, this.ink);
  }

  markRepetition(context, start, period) {
    const end = start + this.array.seconds;
    context.fillStyle = "rgba(255, 255, 255, 0.22)";
    context.fillRect(this.x(start + period), 0, this.x(end) - this.x(start + period), this.plot);
    context.strokeStyle = "#fff";
    context.setLineDash([4, 3]);
    for (let time = start + period; time < end; time += period) {
      context.beginPath();
      context.moveTo(this.x(time), 0);
      context.lineTo(this.x(time), this.plot);
      context.stroke();
    }
    context.setLineDash([]);
    context.fillStyle = "#fff";
    context.textAlign = "left";
    context.textBaseline = "top";
    context.fillText("repeated", this.x(start + period) + 4, 4);
  }

  /** Show the part that is magnified below. */
  mark(region) {
    const { selection } = this;
    const end = Math.min(region.stop_s, this.array.seconds);
    selection.hidden = end <= region.start_s;
    if (selection.hidden) return;
    const clip = (x) => Math.min(LEFT + this.width, Math.max(LEFT, x));
    const [left, right] = [region.start_s, end].map((time) => clip(this.x(this.scale.start_s + time)));
    Object.assign(selection.style, {
      left: `${left}px`,
      width: `${right - left}px`,
      top: `${(1 - region.high) * this.plot}px`,
      height: `${(region.high - region.low) * this.plot}px`,
    });
  }
}

/** An array of one value per time, such as a waveform at another rate, as a line. */
export class LinePanel extends Panel {
  constructor(scale, array, values, offset, height, on) {
    const [low, high] = array.range.map((value) => value.toPrecision(3).replace("-", "−"));
    super(scale, [h("b", {}, name(array.name)), ` ${array.shape[0]} · ${array.seconds.toFixed(2)} s · ${low} to ${high}`], 84, on);
    Object.assign(this, { array, values, offset });
  }

  value(time) {
    const [size] = this.array.shape;
    const at = Math.floor(((time - this.scale.start_s) / this.array.seconds) * size);
    if (at < 0 || at >= size) return null;
    const [low, high] = this.array.range;
    return low + ((high - low) * this.values[this.offset + at]) / STEPS;
  }

  draw() {
    const context = this.clear();
    const style = getComputedStyle(this.surface);
    const [size] = this.array.shape;
    const [start, end] = [this.x(this.scale.start_s), this.x(this.scale.start_s + this.array.seconds)];
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width, this.height);
    context.clip();
    context.fillStyle = style.getPropertyValue("--panel");
    context.fillRect(start, 0, end - start, this.height);
    context.fillStyle = style.getPropertyValue("--wave");
    const values = this.values.subarray(this.offset, this.offset + size);
    drawValues(context, values, [start, end], [LEFT, LEFT + this.width], (value) => this.height * (1 - value / STEPS));
    context.restore();
  }
}

/** A part of an array, magnified; dragging or the arrow keys move it. */
export class Detail {
  constructor(scale, label, on) {
    Object.assign(this, { scale, on, height: 240 });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.surface = h("div", { class: "surface detail", tabindex: 0, role: "group", "aria-label": `${label}: arrow keys move the detail, + and - change its size` }, this.canvas);
    this.surface.style.height = `${this.height}px`;
    this.unit = h("span", { class: "unit" }, "Hz");
    this.surface.addEventListener("pointerdown", (event) => this.down(event));
    this.surface.addEventListener("keydown", (event) => this.key(event));
  }

  draw(panel, region) {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(1, this.surface.clientWidth - LEFT);
    const plot = this.height - 20;
    Object.assign(this, { width, region });
    this.unit.hidden = !panel.array.bands_hz;
    this.canvas.width = Math.round((width + LEFT) * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    context.font = "11px system-ui, sans-serif";
    const style = getComputedStyle(this.surface);
    context.fillStyle = style.getPropertyValue("--nothing");
    context.fillRect(LEFT, 0, width, plot);
    const [rows, columns] = panel.array.shape;
    const [start, stop] = [region.start_s, region.stop_s].map((time) => (time / panel.array.seconds) * columns);
    const seen = Math.min(stop, columns) - start;
    if (seen > 0) {
      const share = seen / (stop - start);
      context.drawImage(panel.image, start, (1 - region.high) * rows, seen, (region.high - region.low) * rows, LEFT, 0, share * width, plot);
    }
    drawAxis(context, panel.array, [region.low, region.high], LEFT, plot, style.color);
    const from = region.start_s + this.scale.start_s;
    const to = region.stop_s + this.scale.start_s;
    const [times, decimals] = ticks(from, to, width);
    context.textAlign = "center";
    context.textBaseline = "top";
    drawSeconds(context, times.map((time) => [LEFT + ((time - from) / (to - from)) * width, time.toFixed(decimals)]), [LEFT, LEFT + width], plot);
  }

  down(pressed) {
    let last = pressed;
    followPointer(pressed, (event) => {
      const length = this.region.stop_s - this.region.start_s;
      const tall = this.region.high - this.region.low;
      this.on.move((-(event.clientX - last.clientX) / this.width) * length, ((event.clientY - last.clientY) / this.height) * tall);
      last = event;
    });
  }

  key(event) {
    const { region } = this;
    const [right, up] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (right || up) this.on.move((right * (region.stop_s - region.start_s)) / 10, (up * (region.high - region.low)) / 10);
    else if (event.key === "+" || event.key === "-") this.on.size(event.key === "+" ? 0.8 : 1.25);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
