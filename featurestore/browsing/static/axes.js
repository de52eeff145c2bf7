// Axes of pictures: seconds below, Hz on the left, as librosa labels them.

const TICKS_HZ = [0, 512, 1024, 2048, 4096, 8192, 16384, 32768];

/** Return the share of an image's height at which a frequency lies, between the bands' centres. */
export function placeOf(centres, hz) {
  const size = centres.length;
  let at = centres.findIndex((centre) => centre >= hz);
  if (at <= 0) return (at < 0 ? size - 0.5 : 0.5) / size;
  at += (hz - centres[at]) / (centres[at] - centres[at - 1]);
  return (at + 0.5) / size;
}

/** Return the frequency at a share of the height; the inverse of `placeOf`. */
export function hzAt(centres, place) {
  const at = Math.min(centres.length - 1, Math.max(0, place * centres.length - 0.5));
  const [low, high] = [Math.floor(at), Math.ceil(at)];
  return centres[low] + (at - low) * (centres[high] - centres[low]);
}

/** Return times for ticks, some hundred pixels apart, and how many decimals they need. */
export function ticks(from, to, width) {
  const rough = (to - from) / Math.max(2, width / 90);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const times = [];
  for (let at = Math.ceil(from / step); at * step <= to; at += 1) times.push(at * step);
  return [times, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

/** Write times below an image, as far as they have room between its sides; the last with its unit. */
export function drawSeconds(context, marks, [left, right], height) {
  const fitting = marks.filter(([x]) => x > left + 8 && x < right - 18);
  for (const [x] of marks) context.fillRect(Math.min(x, right - 1), height, 1, 4);
  fitting.forEach(([x, text], at) => context.fillText(at === fitting.length - 1 ? `${text} s` : text, x, height + 5));
}

/** Return librosa's ticks between two shares of the height; round ones where these are too few. */
function ticksHz(centres, low, high) {
  const [from, to] = [hzAt(centres, low), hzAt(centres, high)];
  const inside = TICKS_HZ.filter((hz) => hz >= from && hz <= to);
  return inside.length > 2 ? inside : ticks(from, to, 700)[0].map(Math.round);
}

/** Write Hz, or numbers of rows, on the left of an image that shows a part of the bands. */
export function drawAxis(context, array, [low, high], left, height, ink) {
  context.fillStyle = ink;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const centres = array.bands_hz;
  const marks = centres ? ticksHz(centres, low, high).map((hz) => [placeOf(centres, hz), hz]) : [0, 0.5, 1].map((place) => [place, Math.round(place * array.shape[0])]);
  let last = Infinity;
  for (const [place, label] of marks) {
    const y = height * (1 - (place - low) / (high - low));
    if (y < -1 || y > height + 1 || last - y < 13) continue;
    last = y;
    context.fillRect(left - 4, Math.min(height - 1, y), 4, 1);
    context.fillText(String(label), left - 6, Math.min(height - 6, Math.max(6, y)));
  }
}
