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

/** Replace what an element holds: what had the focus has it again. */
export function refill(element, ...children) {
  keepFocus(element, () => element.replaceChildren(...children));
}

/** Change what an element holds to what `children` show, and leave in its place what is there already: a list that is
 * open stays open, a press still ends as a click, and what was selected, unfolded or scrolled stays so. What stays keeps
 * its listeners, so what is the same to `same` must act the same.
 */
export function redraw(element, children) {
  keepFocus(element, () => exchange(element, children));
}

const same = (one, other) =>
  one.nodeName === other.nodeName && ["id", "name", "href"].every((of) => (one[of] ?? "") === (other[of] ?? ""));

function exchange(element, children) {
  let next = element.firstChild;
  for (const child of children) {
    let old = next;
    while (old && !same(old, child)) old = old.nextSibling;
    if (old) {
      while (next !== old) next = dropped(next);
      next = old.nextSibling;
      update(old, child);
    } else {
      element.insertBefore(child, next);
    }
  }
  while (next) next = dropped(next);
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function update(old, child) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== child.data) old.data = child.data;
    return;
  }
  if (old.tagName === "CANVAS") return; // it shows what was painted into it
  const { value, checked } = child;
  for (const { name: of } of [...old.attributes]) {
    if (of !== "open" && !child.hasAttribute(of)) old.removeAttribute(of);
  }
  for (const { name: of, value: text } of child.attributes) {
    if (of !== "style" && old.getAttribute(of) !== text) old.setAttribute(of, text);
  }
  // The page's policy allows no style as an attribute.
  if (old.style.cssText !== child.style.cssText) old.style.cssText = child.style.cssText;
  exchange(old, [...child.childNodes]);
  if (old.value !== value) old.value = value; // after its options
  if (old.checked !== checked) old.checked = checked;
}

function keepFocus(element, change) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  change();
  if (!active || active.isConnected) return;
  [...element.querySelectorAll(active.tagName)].find((other) => same(active, other))?.focus({ preventScroll: true });
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
