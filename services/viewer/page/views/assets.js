// The table of assets: ten thousand rows, of which only those in sight are built.
import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { get, post, query } from "../api.js";
import * as live from "../live.js";
import { Action, Age, Chip, Empty, Head, Notice, Thumb, toast } from "../ui.js";
import { bytes, count, span, stateName } from "../format.js";

const PAGE = 500;
const ROW = 60;
const MARGIN = 8;
const AT_ONCE = 5;
const STATES = {
  edge: ["available", "requesting", "requested", "ready", "mirrored", "refused", "cancelled", "expired", "withdrawn"],
  core: ["announced", "downloaded", "broadcast", "failed", "expired", "withdrawn"],
};
// A column's heading goes through these orders.
const HEADINGS = [
  ["title", "Title", ["title asc", ""]],
  ["size", "Size", ["size desc", "size asc"]],
  ["state", "State", ["state asc", ""]],
  ["age", "Age", ["", "at asc"]],
];
const ASKABLE = new Set(["available", "refused", "cancelled"]);
// Keys that do something with rows.
const ON_ROWS = new Set([" ", "Enter", "r", "c"]);
const TAKEN_BACK = new Set(["requesting", "requested", "ready"]);

// Changed assets, once a frame at most however many events there are.
function onBatch(listener) {
  let waiting = null;
  let frame = 0;
  const tell = () => {
    const batch = waiting;
    waiting = null;
    listener(batch);
  };
  const off = live.on("assets", ({ assets, by_state }) => {
    if (!waiting) {
      waiting = { assets: new Map(), by_state: null };
      frame = requestAnimationFrame(tell);
    }
    for (const one of assets ?? []) waiting.assets.set(one.asset_id, one);
    waiting.by_state = by_state ?? waiting.by_state;
  });
  return () => {
    off();
    cancelAnimationFrame(frame);
  };
}

// The listing for a filter: pages are read as they come into sight, changes are put in where they stand.
function useListing(filter) {
  const [rows, setRows] = useState([]);
  const [meta, setMeta] = useState({ total: 0, by_state: {}, problem: null, loading: true, of: null });
  const [fresh, setFresh] = useState(0);
  const cursor = useRef(null);
  const reading = useRef(false);
  const generation = useRef(0);
  // What is pushed while the list is read: the answer may not know of it.
  const pushed = useRef(new Map());
  const broken = useRef(false);

  const read = useCallback(async (restart) => {
    if (reading.current && !restart) return;
    if (!restart && cursor.current === null) return;
    const own = restart ? (generation.current += 1) : generation.current;
    reading.current = true;
    pushed.current = new Map();
    try {
      const after = restart ? null : cursor.current;
      const page = await get(`/api/assets${query({ ...filter, limit: PAGE, after })}`);
      if (own !== generation.current) return;
      cursor.current = page.next;
      const assets = page.assets.map((one) => pushed.current.get(one.asset_id) ?? one);
      setRows((old) => (restart ? assets : [...old, ...assets]));
      broken.current = false;
      setMeta({ total: page.total, by_state: page.by_state, problem: null, loading: false, of: filter });
      if (restart) setFresh(0);
    } catch (problem) {
      if (own !== generation.current) return;
      broken.current = true;
      setMeta((old) => ({ ...old, problem, loading: false }));
    } finally {
      if (own === generation.current) reading.current = false;
    }
  }, [filter.q, filter.state, filter.sort, filter.order]);

  useEffect(() => {
    setMeta((old) => ({ ...old, loading: true }));
    read(true);
    const plain = !filter.q && !filter.state && !filter.sort;
    const offs = [
      live.on("reset", () => read(true)),
      // Where the events that were missed come with the connection, nothing is read again.
      live.on("connection", ({ connected, resumed }) => connected && (!resumed || broken.current || reading.current) && read(true)),
      onBatch(({ assets, by_state }) => {
        if (reading.current) assets.forEach((one, id) => pushed.current.set(id, one));
        const changed = new Map(assets);
        setRows((old) => {
          // Rows that did not change stay the same objects, so they are not built again.
          const next = old.map((row) => {
            const newer = changed.get(row.asset_id);
            if (newer) changed.delete(row.asset_id);
            return newer ?? row;
          });
          if (changed.size === 0) return next;
          if (!plain) {
            const fits = (one) => (!filter.state || one.state === filter.state) && (!filter.q || (one.title ?? "").toLowerCase().includes(filter.q.toLowerCase()));
            const coming = [...changed.values()].filter(fits).length;
            if (coming) setFresh((number) => number + coming);
            return next;
          }
          // Newest first: what is new to the list stands before it.
          const time = (one) => one.broadcast_at ?? one.announced_at ?? 0;
          const first = next.length ? time(next[0]) : 0;
          const added = [...changed.values()].filter((one) => time(one) >= first || next.length === 0);
          added.sort((a, b) => time(b) - time(a));
          return added.length ? [...added, ...next] : next;
        });
        if (by_state) {
          const known = filter.state ? (by_state[filter.state] ?? 0) : Object.values(by_state).reduce((sum, one) => sum + one, 0);
          setMeta((old) => ({ ...old, by_state, total: filter.q ? old.total : known }));
        }
      }),
    ];
    return () => offs.forEach((off) => off());
  }, [read]);
  // Until the new listing is here, what is shown is that of another filter, and nobody means to click it.
  return { rows, ...meta, stale: meta.of !== filter, fresh, more: () => read(false), restart: () => read(true) };
}

// Pictures of rows that are only scrolled past are not asked for: what stays in sight for a moment is.
const LOOKED_AT_MS = 120;
const lookedAt = new Set();

function Picture({ asset }) {
  const [, draw] = useState(0);
  const id = asset.asset_id;
  useEffect(() => {
    if (lookedAt.has(id)) return undefined;
    const timer = setTimeout(() => {
      lookedAt.add(id);
      draw((number) => number + 1);
    }, LOOKED_AT_MS);
    return () => clearTimeout(timer);
  }, [id]);
  return html`<${Thumb} asset=${lookedAt.has(id) ? asset : null} />`;
}

function Row({ asset, selected, current, index, total }) {
  return html`<div id="row-${asset.asset_id}" class="asset-row ${current ? "current" : ""}" role="option" aria-selected=${selected} aria-posinset=${index + 1} aria-setsize=${total}
      data-testid="asset-${asset.asset_id}" data-state=${asset.state} data-index=${index} style=${{ transform: `translateY(${index * ROW}px)` }}>
    <span class="tick" aria-hidden="true">${selected ? "✓" : ""}</span>
    <${Picture} asset=${asset} />
    <span class="asset-title">${asset.title || asset.file_name || asset.asset_id}</span>
    <span class="asset-size">${bytes(asset.size)}</span>
    <span class="asset-state"><${Chip} state=${asset.state} /></span>
    <span class="asset-age quiet"><${Age} at=${asset.broadcast_at ?? asset.announced_at} /></span>
  </div>`;
}

// The rows in sight. One whose facts are the same objects as before is not built, nor compared, again.
function useRows(rows, first, last, selected, cursor, total) {
  const built = useRef(new Map());
  const next = new Map();
  const list = rows.slice(first, last).map((asset, at) => {
    const index = first + at;
    const facts = [asset, index, selected.has(asset.asset_id), index === cursor, total];
    const before = built.current.get(asset.asset_id);
    const same = before?.facts.every((fact, number) => fact === facts[number]);
    const node = same ? before.node : html`<${Row} key=${asset.asset_id} asset=${asset} index=${index} selected=${facts[2]} current=${facts[3]} total=${total} />`;
    next.set(asset.asset_id, { facts, node });
    return node;
  });
  built.current = next;
  return list;
}

// Scrolling draws this and no more of the view.
function InSight({ box, rows, selected, cursor, total, onMore }) {
  const [scroll, setScroll] = useState(0);
  const [height, setHeight] = useState(600);
  useEffect(() => {
    const scrolled = () => setScroll(Math.floor(box.current.scrollTop / ROW));
    const observer = new ResizeObserver(([entry]) => setHeight(entry.contentRect.height));
    observer.observe(box.current);
    box.current.addEventListener("scroll", scrolled, { passive: true });
    return () => observer.disconnect();
  }, []);
  const last = Math.min(rows.length, scroll + Math.ceil(height / ROW) + 1 + MARGIN);
  const built = useRows(rows, Math.max(0, scroll - MARGIN), last, selected, cursor, total);
  useEffect(() => {
    if (last >= rows.length - MARGIN * 4) onMore();
  }, [last, rows.length]);
  return html`<div class="asset-space" role="presentation" style=${{ height: `${rows.length * ROW}px` }}>${built}</div>`;
}

function Headings({ order, onOrder }) {
  return html`<div class="asset-head" role="group" aria-label="Order by">
    <span></span><span></span>
    ${HEADINGS.map(([id, label, orders]) => {
      const at = orders.indexOf(order);
      // Newest first is how it is where nobody asked for anything.
      const on = at >= 0 && (order !== "" || id === "age");
      const mark = on ? (order.endsWith("asc") ? " ▲" : " ▼") : "";
      return html`<button key=${id} type="button" class="asset-${id}" data-testid="order-by-${id}" aria-pressed=${on} onClick=${() => onOrder(orders[on ? (at + 1) % orders.length : 0])}>${label}<span aria-hidden="true">${mark}</span></button>`;
    })}
  </div>`;
}

function Cost({ chosen, mirror }) {
  const askable = chosen.filter((one) => ASKABLE.has(one.state));
  const size = askable.reduce((sum, one) => sum + (one.size ?? 0), 0);
  const rate = mirror?.bytes_per_second;
  const from = mirror?.rate_from;
  const time = rate ? `, ${from === "cap" ? "at best " : ""}${span(size / rate)} at ${bytes(rate)}/s` : ", time not known yet";
  const measured = from === "cap" ? ", the link's limit" : html`, ${from === "link" ? "the link's busiest minute" : "measured"} <${Age} at=${mirror?.as_of} />`;
  // An age that is read aloud as it grows would be no help.
  return html`<span><span data-testid="cost" aria-live="polite">${chosen.length} selected${askable.length ? ` · will cost ${bytes(size)}${time}` : ""}</span>${askable.length && rate ? html`<span class="quiet">${measured}</span>` : null}</span>`;
}

export function Assets({ session }) {
  const kind = session.kind;
  const wanted = new URLSearchParams(location.hash.split("?")[1] ?? "");
  const [text, setText] = useState("");
  const [q, setQ] = useState("");
  const [state, setState] = useState(wanted.get("state") ?? "");
  const [order, setOrder] = useState("");
  const [sort, direction] = order ? order.split(" ") : ["", ""];
  const filter = useMemo(() => ({ q, state, sort, order: direction }), [q, state, order]);
  const list = useListing(filter);
  const [selected, setSelected] = useState(() => new Set());
  const [cursor, setCursor] = useState(0);
  const [estimate, setEstimate] = useState(null);
  const box = useRef(null);
  const search = useRef(null);
  // Where a range of rows begins that is chosen with Shift.
  const anchor = useRef(null);

  useEffect(() => {
    const timer = setTimeout(() => setQ(text.trim()), 200);
    return () => clearTimeout(timer);
  }, [text]);
  useEffect(() => {
    box.current.scrollTop = 0;
    setCursor(0);
    top.current = null;
    held.current = false;
  }, [q, state, order]);
  useEffect(() => {
    if (kind === "edge") get("/api/mirror/estimate").then(setEstimate, () => setEstimate(null));
  }, [kind, selected.size > 0]);

  const rows = list.rows;
  // While others are looked for, it stays as it was.
  const none = rows.length === 0 && Boolean(list.of || list.problem);
  const narrowed = list.of?.q || list.of?.state;

  // Rows that come before the others push away neither the row one is at nor those one looks at.
  const top = useRef(null);
  const held = useRef(false);
  useLayoutEffect(() => {
    const shift = top.current ? rows.findIndex((one) => one.asset_id === top.current) : 0;
    top.current = rows[0]?.asset_id ?? null;
    if (shift <= 0) return;
    if (held.current) setCursor((old) => old + shift);
    if (box.current.scrollTop > 0) box.current.scrollTop += shift * ROW;
  }, [rows]);

  const chosen = useMemo(() => (selected.size ? rows.filter((one) => selected.has(one.asset_id)) : []), [rows, selected]);
  const act = async (what, states, said) => {
    const targets = (chosen.length ? chosen : rows[cursor] ? [rows[cursor]] : []).filter((one) => states.has(one.state));
    if (targets.length === 0) return toast(`Nothing that can be ${said} is selected.`, "warn");
    const failed = [];
    const left = [...targets];
    // Several at once: the site writes those that come together in one go.
    const work = async () => {
      for (let one = left.shift(); one; one = left.shift()) {
        try {
          await post(`/api/assets/${one.asset_id}/${what}`);
        } catch (problem) {
          failed.push(problem);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, targets.length) }, work));
    setSelected(new Set());
    if (targets.length > failed.length) toast(`${targets.length - failed.length} ${said}.`);
    if (failed.length) toast(`${failed.length} not ${said}: ${failed[0].message}`, "bad");
    list.restart();
  };
  const request = () => act("request", ASKABLE, "requested");
  const cancel = () => act("cancel", TAKEN_BACK, "cancelled");
  const mayAsk = session.rights.includes("request");

  const move = (step) => {
    const next = Math.min(rows.length - 1, Math.max(0, cursor + step));
    setCursor(next);
    held.current = true;
    const top = next * ROW;
    const view = box.current;
    if (top < view.scrollTop) view.scrollTop = top;
    if (top + ROW > view.scrollTop + view.clientHeight) view.scrollTop = top + ROW - view.clientHeight;
  };
  const toggle = (one) => {
    held.current = true;
    anchor.current = one.asset_id;
    setSelected((old) => {
      const next = new Set(old);
      if (!next.delete(one.asset_id)) next.add(one.asset_id);
      return next;
    });
  };
  const choose = (from, to) => {
    const [first, last] = [Math.max(0, Math.min(from, to)), Math.max(from, to)];
    setSelected((old) => new Set([...old, ...rows.slice(first, last + 1).map((one) => one.asset_id)]));
  };
  const all = rows.length > 0 && chosen.length === rows.length;
  const chooseAll = () => (all ? setSelected(new Set()) : choose(0, rows.length - 1));
  const extend = (step) => {
    if (list.stale) return;
    choose(cursor, Math.min(rows.length - 1, cursor + step));
    move(step);
  };
  const keys = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "a" && !list.stale) {
      event.preventDefault();
      choose(0, rows.length - 1);
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(box.current.clientHeight / ROW) - 1);
    const actions = {
      ArrowDown: () => (event.shiftKey ? extend(1) : move(1)), j: () => move(1), ArrowUp: () => (event.shiftKey ? extend(-1) : move(-1)), k: () => move(-1),
      PageDown: () => move(page), PageUp: () => move(-page), Home: () => move(-rows.length), End: () => move(rows.length),
      " ": () => rows[cursor] && toggle(rows[cursor]),
      Enter: () => rows[cursor] && (location.hash = `#/assets/${rows[cursor].asset_id}`),
      r: () => mayAsk && request(), c: () => mayAsk && cancel(),
      "/": () => search.current.focus(), Escape: () => setSelected(new Set()),
    };
    if (actions[event.key]) {
      event.preventDefault();
      // Rows of another filter are those that nobody means.
      if (list.stale && ON_ROWS.has(event.key)) return;
      actions[event.key]();
    }
  };

  const press = (event) => {
    const row = event.target.closest("[data-index]");
    if (!row) return;
    const index = Number(row.dataset.index);
    setCursor(index);
    const from = event.shiftKey ? rows.findIndex((one) => one.asset_id === anchor.current) : -1;
    if (from >= 0) choose(from, index);
    else toggle(rows[index]);
  };
  return html`<${Head} title="Assets">
      <span class="quiet" data-testid="total">${list.of ? `${count(list.total)}${narrowed ? " found" : " known"}` : "…"}</span>
      <button type="button" class="small" disabled=${!rows.length || list.stale} data-testid="select-all" onClick=${chooseAll}>${all ? "Select none" : rows.length >= list.total ? "Select all" : `Select the first ${count(rows.length)}`}</button>
    <//>
    <div class="toolbar">
      <input type="search" ref=${search} placeholder="Search titles (press /)" aria-label="Search titles" data-testid="search" value=${text} onInput=${(event) => setText(event.target.value)} />
      <select aria-label="State" data-testid="filter-state" value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">All states</option>
        ${STATES[kind].map((one) => html`<option key=${one} value=${one}>${stateName(one)}${list.of ? ` (${count(list.by_state[one] ?? 0)})` : ""}</option>`)}
      </select>
      <select aria-label="Order" data-testid="sort" value=${order} onChange=${(event) => setOrder(event.target.value)}>
        <option value="">Newest first</option><option value="at asc">Oldest first</option><option value="title asc">By title</option>
        <option value="size desc">Largest first</option><option value="size asc">Smallest first</option><option value="state asc">By state</option>
      </select>
      ${list.fresh ? html`<button type="button" class="small" onClick=${list.restart}>${list.fresh} changed – show</button>` : null}
    </div>
    <${Notice} problem=${list.problem} onRetry=${list.restart} />
    ${none ? null : html`<${Headings} order=${order} onOrder=${setOrder} />`}
    <div class="asset-list ${list.stale ? "stale" : ""}" hidden=${none} aria-busy=${list.stale} role="listbox" aria-multiselectable="true" aria-label="Assets" tabindex="0" ref=${box} data-testid="assets" onKeyDown=${keys} onClick=${press}
        aria-activedescendant=${rows[cursor] ? `row-${rows[cursor].asset_id}` : undefined}>
      <${InSight} box=${box} rows=${rows} selected=${selected} cursor=${cursor} total=${Math.max(list.total, rows.length)} onMore=${list.more} />
    </div>
    ${none && !list.problem
      ? html`<${Empty} title=${narrowed ? "Nothing matches." : "Nothing here yet."}>${narrowed ? "Change the search or the state." : "Assets appear within seconds of headquarters announcing them, once the link is up."}<//>`
      : null}
    <div class="actions" role="group" aria-label="With what is selected">
      ${kind === "edge" ? html`<${Cost} chosen=${chosen} mirror=${estimate} />` : html`<span>${chosen.length} selected</span>`}
      <span class="grow"></span>
      <button type="button" disabled=${!rows[cursor]} data-testid="open" onClick=${() => (location.hash = `#/assets/${(chosen[0] ?? rows[cursor]).asset_id}`)}>Open</button>
      ${mayAsk
        ? html`<${Action} testid="cancel" run=${cancel} disabled=${!chosen.some((one) => TAKEN_BACK.has(one.state))}>Cancel<//>
            <${Action} kind="primary" testid="request" run=${request} disabled=${!chosen.some((one) => ASKABLE.has(one.state))}>Request<//>`
        : null}
    </div>
    <p class="quiet keys">Arrow keys or j and k move, space selects, with Shift several, Ctrl+A all; Enter opens${mayAsk ? ", r requests, c cancels" : ""}, / searches.</p>`;
}
