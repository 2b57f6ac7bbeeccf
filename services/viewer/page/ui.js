// What several views share: data that stays fresh, chips, buttons that say what became of them, dialogs.
import { html, useEffect, useRef, useState, useCallback } from "./html.js";
import { get } from "./api.js";
import * as live from "./live.js";
import { ago, bytes, count, lasting, moment, span, stateName, tone } from "./format.js";

// Answers may come in another order than they were asked for. What begins a turn ends those before it; a turn says whether
// it still counts.
export function useTurns() {
  const [turns] = useState(() => {
    let last = 0;
    const turn = (own) => () => own === last;
    return { begin: () => turn((last += 1)), now: () => turn(last) };
  });
  return turns;
}

// How many events are kept while something is read; after more of them it is read once more.
const MOST = 100;

// Reads `source`, a path or a function that reads, then follows events of `kind`; after a gap it is read again, and so it
// is when `merge` answers nothing. A function must stay the same from call to call.
export function useLive(source, kind, merge = (_, pushed) => pushed) {
  const [value, setValue] = useState({ data: null, problem: null, loading: true });
  const latest = useRef(null);
  const failed = useRef(false);
  const turns = useTurns();
  // What is pushed while it is read: the answer may not know of it. Null while it is not read.
  const coming = useRef(null);
  const load = useCallback(async () => {
    if (!source) return undefined;
    const still = turns.begin();
    const pushed = [];
    coming.current = pushed;
    try {
      let data = await (typeof source === "string" ? get(source) : source());
      if (!still()) return undefined;
      for (const one of pushed) data = data === undefined ? data : merge(data, one);
      if (data === undefined || pushed.length === MOST) return load();
      coming.current = null;
      latest.current = data;
      failed.current = false;
      return setValue({ data, problem: null, loading: false });
    } catch (problem) {
      if (!still()) return undefined;
      coming.current = null;
      failed.current = true;
      return setValue((old) => ({ ...old, problem, loading: false }));
    }
  }, [source]);
  useEffect(() => {
    setValue((old) => ({ ...old, loading: true }));
    load();
    const hear = (pushed) => {
      if (coming.current?.length < MOST) coming.current.push(pushed);
      const data = merge(latest.current, pushed);
      if (data === undefined) return coming.current ? undefined : load();
      // There is nothing yet that it could be put into.
      if (data === null) return undefined;
      latest.current = data;
      return setValue((old) => ({ ...old, data, problem: null }));
    };
    // Where the events that were missed come with the connection, only what has none is read again, and what was never
    // answered.
    const back = ({ connected, resumed }) => connected && (!resumed || !kind || failed.current || coming.current) && load();
    const offs = [live.on("reset", load), live.on("connection", back)];
    if (kind) offs.push(live.on(kind, hear));
    return () => offs.forEach((off) => off());
  }, [load, kind]);
  return { ...value, reload: load };
}

// One clock for all that shows how old something is. It ticks while anything does.
const clock = new Set();
let ticking = null;

function onTick(listener) {
  clock.add(listener);
  ticking ??= setInterval(() => clock.forEach((one) => one()), 1000);
  return () => {
    clock.delete(listener);
    if (clock.size) return;
    clearInterval(ticking);
    ticking = null;
  };
}

// What `tell` makes of the site's time, told again when that changes: words seldom do.
export function useTime(tell) {
  const [, draw] = useState(0);
  const shown = useRef(null);
  shown.current = { tell, words: tell(live.now()) };
  useEffect(() => onTick(() => shown.current.tell(live.now()) !== shown.current.words && draw((number) => number + 1)), []);
  return shown.current.words;
}

export function Age({ at }) {
  const words = useTime((now) => ago(at, now));
  if (!at) return html`<span class="quiet">never</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${moment(at)}>${words}</time>`;
}

const EXHAUSTED = "catalogue exhausted";

// Whether its process is gone, as far as anybody knows: only where it ran can it be started again.
export const ended = (one) => ["silent", "stopped", "failed"].includes(one?.state);

// What a service says of itself.
export const detailOf = (one) => (one.detail === EXHAUSTED ? "everything is announced" : one.detail);

// A service's state. One that has done all there is to do waits for more, and nothing is wrong with that.
export function ServiceChip({ one }) {
  const done = one.state === "waiting" && one.detail === EXHAUSTED;
  return html`<${Chip} state=${one.state} calm=${done} label=${done ? "Done" : undefined} testid="service-${one.service}-state" />`;
}

// How long something has been so.
export function Lasting({ since }) {
  const words = useTime((now) => lasting(now - since));
  return html`<time datetime=${new Date(since).toISOString()} title="since ${moment(since)}">${words}</time>`;
}

export function Chip({ state, label, testid, calm }) {
  return html`<span class="chip ${calm ? "calm" : tone(state)}" data-testid=${testid} data-state=${state}>${label ?? stateName(state)}</span>`;
}

const PICTURE = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;

// A picture; where it cannot be had, what stands in its place, and not the browser's sign for it.
export function Image({ none = null, ...facts }) {
  const [broken, setBroken] = useState(false);
  return broken ? none : html`<img ...${facts} onError=${() => setBroken(true)} />`;
}

// A small picture: the preview. Headquarters has the pictures themselves too, and small ones cost no more than a preview.
export function Thumb({ asset }) {
  const whole = asset?.size <= 8192 && ["downloaded", "broadcast"].includes(asset.state) && PICTURE.test(asset.media_type ?? "");
  const source = asset?.has_preview ? "preview" : whole ? "content" : null;
  return html`<span class="thumb" aria-hidden="true">${source ? html`<${Image} key=${`${asset.asset_id}/${source}`} src="/api/assets/${asset.asset_id}/${source}" alt="" loading="lazy" decoding="async" />` : null}</span>`;
}

export function Notice({ problem, onRetry }) {
  if (!problem) return null;
  return html`<div class="notice bad" role="alert">
    <strong>${problem.message}</strong>
    ${problem.hint ? html`<span>${problem.hint}</span>` : null}
    ${onRetry ? html`<${Action} kind="small" testid="try-again" run=${onRetry}>Try again<//>` : null}
  </div>`;
}

// What of a view could not be read. One outage takes several readings with it: it is told once, and all of them are read again.
export function Notices({ of }) {
  const failed = of.filter((one) => one.problem);
  const messages = [...new Set(failed.map((one) => one.problem.message))];
  return messages.map((message) => {
    const same = failed.filter((one) => one.problem.message === message);
    return html`<${Notice} key=${message} problem=${same[0].problem} onRetry=${() => Promise.all(same.map((one) => one.reload()))} />`;
  });
}

// Stands where something would be told that is still being read, or that could not be read: why not, a notice says.
export function Unknown({ reading, words = "Not known.", kind = "quiet", testid }) {
  return html`<p class=${kind} data-testid=${testid}>${reading.problem ? words : "…"}</p>`;
}

// How long so many bytes take at the rate that is known, and where that rate is from.
export function takes(size, estimate) {
  const { bytes_per_second: rate, rate_from: from, as_of: at } = estimate ?? {};
  if (!rate) return { time: ", time not known yet", from: null };
  const time = `, ${from === "cap" ? "at best " : ""}${span(size / rate)} at ${bytes(rate)}/s`;
  return { time, from: from === "cap" ? ", the link's limit" : html`, ${from === "link" ? "the link's busiest minute" : "measured"} <${Age} at=${at} />` };
}

// Read by the view, which tells what could not be read.
export const useVolume = (there = true) => useLive(there ? "/api/volume" : null, "volume");

// How full the volume is, as of when it was measured.
export function Disk({ reading }) {
  const disk = reading.data;
  if (!disk) return html`<${Unknown} reading=${reading} words="How full the disk is, is not known." kind="quiet disk" testid="disk" />`;
  const { used_bytes: used, free_bytes: free, total_bytes: total, quota_bytes: quota } = disk;
  const whole = quota ?? total;
  const taken = quota === null ? total - free : used;
  // As the site itself judges it: a tenth of a large disk is much room.
  const low = total !== null && free < Math.min(total / 10, 10 * 2 ** 30);
  return html`<div class="disk" data-testid="disk">
    ${whole === null ? null : html`<meter min="0" max=${whole} value=${taken} high=${low || quota !== null ? whole * 0.9 : whole} aria-label="How full the disk is"></meter>`}
    <p class="quiet">Assets take <b>${bytes(used)}</b>${quota === null ? "" : ` of the ${bytes(quota)} that they may take`}, in ${count(disk.objects)} ${disk.objects === 1 ? "file" : "files"}${free === null ? "" : html` · <b class=${low ? "bad-text" : ""}>${bytes(free)}</b> of ${bytes(total)} free on the disk`} · as of <${Age} at=${disk.as_of} /></p>
  </div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;
}

let pushToast = () => {};

export function toast(text, kind = "good") {
  pushToast({ text, kind, id: Math.random() });
}

export function Toasts() {
  const [toasts, setToasts] = useState([]);
  pushToast = (toast) => {
    setToasts((old) => [...old.slice(-3), toast]);
    setTimeout(() => setToasts((old) => old.filter((one) => one.id !== toast.id)), 6000);
  };
  return html`<div class="toasts" role="status" aria-live="polite" data-testid="toast">
    ${toasts.map((one) => html`<div key=${one.id} class="toast ${one.kind}">${one.text}</div>`)}
  </div>`;
}

// A button that cannot be pressed twice, and that says what went wrong.
export function Action({ run, done, children, kind = "", testid, disabled, title, pressed }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    try {
      const answer = await run();
      if (done && answer !== false) toast(typeof done === "function" ? done(answer) : done);
    } catch (problem) {
      toast(problem.hint ? `${problem.message} – ${problem.hint}` : problem.message, "bad");
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} data-testid=${testid} title=${title} disabled=${disabled || busy} aria-pressed=${pressed} aria-busy=${busy} onClick=${press}>${children}</button>`;
}

// Asks in a dialog; `fields` are inputs, whose `options` are values, or values with what people call them. Resolves with their values, or null. With `run` it stays open until that has
// worked, and says what was wrong with what was entered.
let openDialog = () => Promise.resolve(null);

export const ask = (question) => openDialog(question);

export function Dialogs() {
  const [question, setQuestion] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const dialog = useRef(null);
  openDialog = (next) => new Promise((resolve) => {
    setProblem(null);
    setQuestion({ ...next, resolve });
  });
  useEffect(() => {
    if (question && dialog.current && !dialog.current.open) dialog.current.showModal();
  }, [question]);
  if (!question) return null;
  const close = (answer) => {
    question.resolve(answer);
    setQuestion(null);
  };
  const submit = async (event) => {
    event.preventDefault();
    const said = Object.fromEntries(new FormData(event.target));
    setBusy(true);
    try {
      await question.run?.(said);
      close(said);
    } catch (refused) {
      setProblem(refused);
    } finally {
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${() => close(null)}>
    <form onSubmit=${submit}>
      <h2 id="dialog-title">${question.title}</h2>
      ${question.text ? html`<p>${question.text}</p>` : null}
      <${Notice} problem=${problem} />
      ${(question.fields ?? []).map(
        (field) => html`<label key=${field.name}>${field.label}
          ${field.options
            ? html`<select name=${field.name}>${field.options.map((one) => [one].flat()).map(([value, label = value]) => html`<option key=${value} value=${value} selected=${value === field.value}>${label}</option>`)}</select>`
            : html`<input name=${field.name} type=${field.type ?? "text"} defaultValue=${field.value ?? ""} required=${field.required} minlength=${field.minlength} autocomplete=${field.autocomplete ?? "off"} />`}
        </label>`,
      )}
      <div class="row end">
        <button type="button" data-testid="dialog-cancel" onClick=${() => close(null)}>Cancel</button>
        <button type="submit" class=${question.kind ?? "primary"} data-testid="confirm" disabled=${busy} aria-busy=${busy}>${question.confirm ?? "OK"}</button>
      </div>
    </form>
  </dialog>`;
}

export function Head({ title, children }) {
  useEffect(() => {
    document.title = `${title} · Fieldline`;
  }, [title]);
  return html`<header class="head"><h1 tabindex="-1" id="title">${title}</h1><div class="row">${children}</div></header>`;
}
