// Builds the page. Whatever a name holds, it becomes text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element. Properties that begin with "on" are listeners; `style` is an object. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Return an element of SVG. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// As `featurestore.text.printable`: controls, marks of direction, invisible characters, lone halves.
const UNSAFE = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f" +
    "\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\uffff" +
    "\\ud800-\\udfff]", "gu");

/** Return a text in which nothing is invisible or changes the direction of what follows. */
export function shown(text) {
  return String(text).replace(UNSAFE, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
}

/** Return a name from a store as an element that keeps its direction to itself. */
export const name = (text, properties = {}) => h("bdi", properties, shown(text));

/** Return a link for a web address; text for whatever else a card may hold there. */
export function webLink(url) {
  const safe = /^https?:\/\/[^\s]+$/i.test(url);
  return safe ? h("a", { href: url, rel: "noreferrer noopener", target: "_blank" }, shown(url)) : name(url);
}

/** Replace what an element holds, now and then while one looks: what had the focus has it again. */
export function refill(element, ...children) {
  keepFocus(element, () => element.replaceChildren(...children));
}

/** The same for what has changed only, so that a press on the rest still ends as a click. Children that
 * look alike must act alike.
 */
export function refillChanged(element, children) {
  keepFocus(element, () => exchange(element, children));
}

function exchange(element, children) {
  const before = [...element.childNodes];
  if (before.length !== children.length) {
    element.replaceChildren(...children);
    return;
  }
  before.forEach((old, at) => {
    const child = children[at];
    if (old.isEqualNode(child)) return;
    const blocks = [old, child].every((one) => one.tagName === "DIV" && one.className === old.className);
    if (blocks) exchange(old, [...child.childNodes]);
    else old.replaceWith(child);
  });
}

function keepFocus(element, change) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  change();
  if (!active || active.isConnected) return;
  const same = (other) => ["id", "name", "href"].every((of) => (active[of] ?? "") === (other[of] ?? ""));
  [...element.querySelectorAll(active.tagName)].find(same)?.focus({ preventScroll: true });
}

/** Follow a pointer that was pressed until it is released, or the browser takes it to scroll. */
export function followPointer(pressed, move, release = () => {}) {
  const over = new AbortController();
  const on = (type, does) =>
    addEventListener(type, (event) => event.pointerId === pressed.pointerId && does(event), { signal: over.signal });
  on("pointermove", move);
  on("pointercancel", () => over.abort());
  on("pointerup", (event) => {
    over.abort();
    release(event);
  });
}

/** Colour a cell by a share in [0, 1], up to a percentage at which its number can still be read. */
export function heat(cell, share, most = 70) {
  cell.style.setProperty("--share", `${Math.round(most * share)}%`);
  return cell;
}

/** The percentage for the colour of what is right. */
export const MOST_RIGHT = 50;

export function option(value, label, chosen) {
  const element = h("option", { value }, label);
  element.selected = String(value) === String(chosen);
  return element;
}

export const number = (value) => value.toLocaleString("en");

/** Return seconds in the unit in which one would say them. */
export function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(2)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Return a level in words, without a negative zero, with a minus as it is set. */
export const decibels = (db) => `${(Math.round(10 * db) / 10 || 0).toFixed(1).replace("-", "−")} dBFS`;

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Return a line of what is wrong with something. */
export const fault = (text) => h("p", { class: "line problem" }, shown(text));

/** Return a line of what has gone wrong just now; a screen reader reads it at once. */
export const problem = (error) =>
  h("p", { class: "line problem", role: "alert" }, shown(error.message ?? error));
