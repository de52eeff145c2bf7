// The clip table as columns, and the choice and order of its rows. No page here, no requests.

export const SORTS = {
  store: "store order",
  class: "class",
  fold: "fold",
  name: "id",
  duration: "duration",
  peak: "level",
  suspect: "wrong, then least certain",
};

const OK = 1;

export class Clips {
  constructor(table, collection) {
    Object.assign(this, table.columns);
    this.columns = table.columns;
    this.revision = table.revision;
    this.size = this.clip_id.length;
    this.classes = collection.card.class_names;
    this.statuses = collection.statuses;
    this.period_s = null;
  }

  /** Return the classes of a clip: one, or as many labels as it has. */
  classesOf(row) {
    const labels = this.labels?.[row];
    if (labels) return labels;
    return this.class_id[row] < 0 ? [] : [this.class_id[row]];
  }

  className(row) {
    return this.classesOf(row).map((classId) => this.classes[classId]).join(", ") || "no label";
  }

  /** Return what a search looks through, in lower case. */
  text(row) {
    const texts = [this.clip_id[row], this.path[row], this.source[row], this.className(row)];
    return texts.filter((text) => text !== null).join("\n").toLowerCase();
  }

  /** Return the rows that a query chooses, in its order: an array of numbers.
   *
   * class, fold, status, q: what a row must be or contain; `mark`: one of `rows` sets.
   * sort, down: the order; equal rows keep the store's.
   * run: outcomes {right, predicted, p_true, p_predicted} by row, for the suspect order and `cell`.
   */
  choose(query, run = null) {
    const { q, status } = query;
    const classId = query.class === undefined ? null : this.classes.indexOf(query.class);
    const fold = query.fold === undefined ? null : Number(query.fold);
    const predicted = query.predicted === undefined ? null : this.classes.indexOf(query.predicted);
    const words = (q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    for (let row = 0; row < this.size; row += 1) {
      if (classId !== null && !this.classesOf(row).includes(classId)) continue;
      if (fold !== null && this.fold[row] !== fold) continue;
      if (status && !this.hasStatus(row, status)) continue;
      if (query.recording !== undefined && this.source[row] !== query.recording) continue;
      if (run && predicted !== null && run.predicted[row] !== predicted) continue;
      if (run && query.outcome && !hasOutcome(run, row, query.outcome)) continue;
      if (query.rows && !query.rows.has(row)) continue;
      if (words.length) {
        const text = this.text(row);
        if (!words.every((word) => text.includes(word))) continue;
      }
      rows.push(row);
    }
    return this.sorted(rows, query, run);
  }

  hasStatus(row, status) {
    const code = this.status[row];
    if (status === "failed") return code > OK;
    if (status === "silent") return code === OK && this.peak[row] < 2 ** -15;
    if (status === "repeated") return Boolean(this.period_s) && this.period_s[row] !== null;
    if (status === "mostly") return this.hasStatus(row, "repeated") && this.isMostlyRepetition(row);
    return this.statuses[code].name === status;
  }

  /** Whether at least half of a repeated clip's largest image is repetition. */
  isMostlyRepetition(row) {
    return 2 * this.period_s[row] <= this.image_s;
  }

  sorted(rows, { sort = "store", down = "" }, run) {
    const keys = {
      class: (row) => this.className(row),
      fold: (row) => this.fold[row],
      name: (row) => this.clip_id[row],
      duration: (row) => this.duration_s[row] ?? -1,
      peak: (row) => this.peak[row] ?? -1,
      suspect: (row) => suspicion(run, row),
    };
    const key = sort === "suspect" && !run ? undefined : keys[sort];
    const sign = down ? -1 : 1;
    if (!key) return down ? rows.reverse() : rows;
    const values = new Map(rows.map((row) => [row, key(row)]));
    return rows.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      return x < y ? -sign : x > y ? sign : a - b;
    });
  }
}

/** Return a number that is lowest for a clip that a run is wrong about and sure of. */
function suspicion(run, row) {
  if (run.right[row] === null) return 3;
  return (run.right[row] ? 1 : 0) + run.p_true[row];
}

const hasOutcome = (run, row, outcome) => run.right[row] === (outcome === "right");

/** Return the median of sorted values. */
export const median = (sorted) => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;

/** Return counts and figures of some rows, for a cell of the heat map. */
export function figures(clips, rows) {
  const ok = rows.filter((row) => clips.status[row] === OK);
  const lengths = ok.map((row) => clips.duration_s[row]).filter((value) => value !== null);
  lengths.sort((a, b) => a - b);
  const repeated = clips.period_s ? ok.filter((row) => clips.period_s[row] !== null) : [];
  const mostly = repeated.filter((row) => clips.isMostlyRepetition(row));
  const cut = repeated.map((row) => {
    const length = clips.duration_s[row] || clips.period_s[row];
    return Math.min(1, Math.max(0, 1 - clips.period_s[row] / length));
  });
  return {
    clips: rows.length,
    ok: ok.length,
    failed: rows.filter((row) => clips.status[row] > OK).length,
    pending: rows.filter((row) => clips.status[row] === 0).length,
    silent: ok.filter((row) => clips.peak[row] < 2 ** -15).length,
    median_s: lengths.length ? median(lengths) : null,
    total_s: lengths.reduce((sum, value) => sum + value, 0),
    repeated: repeated.length,
    mostly: mostly.length,
    trimmed: cut.length ? cut.reduce((sum, value) => sum + value, 0) / cut.length : null,
  };
}

/** Return rows by class and fold: a map from class_id to a map from fold to rows.
 *
 * A clip of several labels is in the cells of each.
 */
export function byClassAndFold(clips) {
  const cells = new Map();
  for (let row = 0; row < clips.size; row += 1) {
    for (const classId of clips.classesOf(row)) {
      const of = cells.get(classId) ?? new Map();
      cells.set(classId, of);
      const rows = of.get(clips.fold[row]) ?? [];
      of.set(clips.fold[row], rows);
      rows.push(row);
    }
  }
  return cells;
}

/** Return how the recordings lie in the folds. */
export function recordings(clips) {
  const folds = new Map();
  const counts = new Map();
  for (let row = 0; row < clips.size; row += 1) {
    const source = clips.source[row];
    if (source === null) continue;
    const of = folds.get(source) ?? new Set();
    folds.set(source, of.add(clips.fold[row]));
    counts.set(source, (counts.get(source) ?? 0) + 1);
  }
  const several = [...folds].filter(([, of]) => of.size > 1).map(([source]) => source);
  let [largest, most] = ["", 0];
  for (const [source, count] of counts) if (count > most) [largest, most] = [source, count];
  return { number: folds.size, several, largest, most };
}
