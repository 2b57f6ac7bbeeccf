// A list of assets in the order in which the site lists them, kept so as they change. Pure functions.

// As the site has them: what it lists by, then the id.
const KEYS = {
  at: (one) => one.broadcast_at ?? one.announced_at ?? 0,
  title: (one) => (one.title ?? "").toLowerCase(),
  size: (one) => one.size ?? 0,
  state: (one) => one.state,
};

// Which of two assets comes first; the newest do, where nobody asked for another order.
export function orderOf({ sort, order }) {
  const key = KEYS[sort || "at"];
  const way = order === "asc" ? 1 : -1;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return (one, other) => way * (compare(key(one), key(other)) || compare(one.asset_id, other.asset_id));
}

// Rows with their changes, and of what is new to them that which has its place among them. What would lie behind the last
// row comes when more is read, unless all is read. Rows that did not change stay the same objects, so they are not built again.
export function change(rows, changed, compare, all) {
  const left = new Map(changed);
  const next = rows.map((row) => {
    const newer = left.get(row.asset_id);
    left.delete(row.asset_id);
    return newer ?? row;
  });
  const last = next.at(-1);
  const coming = [...left.values()].filter((one) => all || (last && compare(one, last) < 0));
  return { rows: left.size < changed.size ? next : rows, coming };
}

// Puts in what is coming. Only the places are looked for, for there may be ten thousand rows.
export function insert(rows, coming, compare) {
  const parts = [];
  let from = 0;
  for (const one of [...coming].sort(compare)) {
    let [low, high] = [from, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(rows[middle], one) < 0) low = middle + 1;
      else high = middle;
    }
    parts.push(rows.slice(from, low), [one]);
    from = low;
  }
  return parts.length ? [].concat(...parts, rows.slice(from)) : rows;
}
