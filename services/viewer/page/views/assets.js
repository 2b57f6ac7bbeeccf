// The table of assets: ten thousand rows, of which only those in sight are built.
import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { get, post, query } from "../api.js";
import { change, insert, orderOf } from "../listing.js";
import * as live from "../live.js";
import { Action, Age, Chip, Empty, Head, Notice, Thumb, takes, toast, useLive, useTurns } from "../ui.js";
import { bytes, count, stateName } from "../format.js";

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
  // What has come to a narrowed list since it was read.
  const [fresh, setFresh] = useState(() => new Set());
  // The rows that were shown last, and the filter whose they are: what comes next may come before they are drawn.
  const shown = useRef({ rows: [], of: null });
  const cursor = useRef(null);
  const reading = useRef(false);
  const turns = useTurns();
  // What is pushed while the list is read: the answer may not know of it.
  const pushed = useRef(null);
  const broken = useRef(false);
  const narrowed = Boolean(filter.q || filter.state);

  // Shows rows with what was pushed.
  const show = (known, { assets, by_state }) => {
    const compare = orderOf(filter);
    const { rows: next, coming } = change(known, assets, compare, cursor.current === null);
    // Rows of another filter take in nothing.
    const mine = shown.current.of === filter;
    shown.current.rows = mine && !narrowed ? insert(next, coming, compare) : next;
    setRows(shown.current.rows);
    if (mine && narrowed) {
      const fits = (one) => (!filter.state || one.state === filter.state) && (!filter.q || (one.title ?? "").toLowerCase().includes(filter.q.toLowerCase()));
      const more = coming.filter(fits).map((one) => one.asset_id);
      if (more.length) setFresh((old) => new Set([...old, ...more]));
    }
    if (by_state) {
      const total = filter.state ? (by_state[filter.state] ?? 0) : Object.values(by_state).reduce((sum, one) => sum + one, 0);
      setMeta((old) => ({ ...old, by_state, total: filter.q ? old.total : total }));
    }
  };

  const read = useCallback(async (restart) => {
    if (reading.current && !restart) return;
    if (!restart && cursor.current === null) return;
    const still = restart ? turns.begin() : turns.now();
    reading.current = true;
    pushed.current = { assets: new Map(), by_state: null };
    try {
      const after = restart ? null : cursor.current;
      const page = await get(`/api/assets${query({ ...filter, limit: PAGE, after })}`);
      if (!still()) return;
      cursor.current = page.next;
      const known = restart ? [] : shown.current.rows;
      const ids = new Set(known.map((one) => one.asset_id));
      shown.current.of = filter;
      broken.current = false;
      setMeta({ total: page.total, by_state: page.by_state, problem: null, loading: false, of: filter });
      if (restart) setFresh(new Set());
      // One that changed its place meanwhile may be read twice.
      show([...known, ...page.assets.filter((one) => !ids.has(one.asset_id))], pushed.current);
    } catch (problem) {
      if (!still()) return;
      broken.current = true;
      setMeta((old) => ({ ...old, problem, loading: false }));
    } finally {
      if (still()) reading.current = false;
    }
  }, [filter.q, filter.state, filter.sort, filter.order]);

  useEffect(() => {
    setMeta((old) => ({ ...old, loading: true }));
    read(true);
    const offs = [
      live.on("reset", () => read(true)),
      // Where the events that were missed come with the connection, nothing is read again.
      live.on("connection", ({ connected, resumed }) => connected && (!resumed || broken.current || reading.current) && read(true)),
      onBatch((batch) => {
        if (reading.current) {
          batch.assets.forEach((one, id) => pushed.current.assets.set(id, one));
          pushed.current.by_state = batch.by_state ?? pushed.current.by_state;
        }
        show(shown.current.rows, batch);
      }),
    ];
    return () => offs.forEach((off) => off());
  }, [read]);
  // Until the new listing is here, what is shown is that of another filter, and nobody means to click it.
  return { rows, ...meta, stale: meta.of !== filter, fresh: fresh.size, more: () => read(false), restart: () => read(true) };
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

// How many are chosen, and how many of them only another search shows.
const selection = (chosen, away) => `${count(chosen.length)} selected${away ? `, ${chosen.length === away ? "not" : `${count(away)} of them not`} in this list` : ""}`;

function Cost({ chosen, away, mirror }) {
  const askable = chosen.filter((one) => ASKABLE.has(one.state));
  const size = askable.reduce((sum, one) => sum + (one.size ?? 0), 0);
  const { time, from } = takes(size, mirror);
  // An age that is read aloud as it grows would be no help.
  return html`<span><span data-testid="cost" aria-live="polite">${selection(chosen, away)}${askable.length ? ` · will cost ${bytes(size)}${time}` : ""}</span>${askable.length ? html`<span class="quiet">${from}</span>` : null}</span>`;
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
  // By their ids: what was chosen in one search stays so in the next.
  const [selected, setSelected] = useState(() => new Map());
  const [cursor, setCursor] = useState(0);
  const estimate = useLive(kind === "edge" ? "/api/mirror/estimate" : null, null);
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
    held.current = false;
  }, [q, state, order]);
  useEffect(() => {
    if (selected.size) estimate.reload();
  }, [selected.size > 0]);
  // What is chosen and in another search changes too.
  useEffect(() => onBatch(({ assets }) => setSelected((old) => {
    const newer = [...assets].filter(([id]) => old.has(id));
    return newer.length ? new Map([...old, ...newer]) : old;
  })), []);

  const rows = list.rows;
  // While others are looked for, it stays as it was.
  const none = rows.length === 0 && Boolean(list.of || list.problem);
  const narrowed = list.of?.q || list.of?.state;

  // Rows that come before them push away neither the row one is at nor those one looks at.
  const before = useRef({ rows, of: null });
  const held = useRef(false);
  useLayoutEffect(() => {
    const { rows: old, of } = before.current;
    before.current = { rows, of: list.of };
    if (of !== list.of || (rows.length === old.length && rows.at(-1)?.asset_id === old.at(-1)?.asset_id)) return;
    const shift = (at) => Math.max(0, rows.findIndex((one) => one.asset_id === old[at]?.asset_id) - at);
    if (held.current) setCursor((at) => at + shift(at));
    const view = box.current;
    if (view.scrollTop > 0) view.scrollTop += shift(Math.floor(view.scrollTop / ROW)) * ROW;
  }, [rows]);

  const here = useMemo(() => (selected.size ? rows.filter((one) => selected.has(one.asset_id)) : []), [rows, selected]);
  const chosen = useMemo(() => (here.length === selected.size ? here : [...new Map([...selected, ...here.map((one) => [one.asset_id, one])]).values()]), [here, selected]);
  const away = chosen.length - here.length;
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
    setSelected(new Map());
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
      const next = new Map(old);
      if (!next.delete(one.asset_id)) next.set(one.asset_id, one);
      return next;
    });
  };
  const choose = (from, to) => {
    const [first, last] = [Math.max(0, Math.min(from, to)), Math.max(from, to)];
    setSelected((old) => new Map([...old, ...rows.slice(first, last + 1).map((one) => [one.asset_id, one])]));
  };
  const all = rows.length > 0 && here.length === rows.length;
  const chooseAll = () => (all ? setSelected(new Map()) : choose(0, rows.length - 1));
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
      "/": () => search.current.focus(), Escape: () => setSelected(new Map()),
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
      ${list.fresh ? html`<button type="button" class="small" data-testid="show-changed" onClick=${list.restart}>${list.fresh} changed – show</button>` : null}
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
      ${kind === "edge" ? html`<${Cost} chosen=${chosen} away=${away} mirror=${estimate.data} />` : html`<span>${selection(chosen, away)}</span>`}
      <span class="grow"></span>
      <button type="button" disabled=${!rows[cursor]} data-testid="open" onClick=${() => (location.hash = `#/assets/${(here[0] ?? rows[cursor]).asset_id}`)}>Open</button>
      ${mayAsk
        ? html`<${Action} testid="cancel" run=${cancel} disabled=${!chosen.some((one) => TAKEN_BACK.has(one.state))}>Cancel<//>
            <${Action} kind="primary" testid="request" run=${request} disabled=${!chosen.some((one) => ASKABLE.has(one.state))}>Request<//>`
        : null}
    </div>
    <p class="quiet keys">Arrow keys or j and k move, space selects, with Shift several, Ctrl+A all; Enter opens${mayAsk ? ", r requests, c cancels" : ""}, / searches.</p>`;
}
