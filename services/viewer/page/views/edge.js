// What a field team decides: when bytes move. And what has arrived.
import { html, useEffect } from "../html.js";
import { post } from "../api.js";
import { Action, Age, Chip, Disk, Empty, Head, Image, Notices, Unknown, ended, useLive, useVolume } from "../ui.js";
import { bytes, count, many, span } from "../format.js";
import { working } from "./home.js";

const PLACES = [["first", "First"], ["up", "Up"], ["down", "Down"], ["last", "Last"]];

// What is to come, in its order; the buttons say when.
function Queue({ queue, may }) {
  const list = queue.data?.queue ?? [];
  if (list.length === 0) return null;
  const move = (one, to) => async () => {
    await post(`/api/assets/${one.asset_id}/order`, { to });
    await queue.reload();
  };
  return html`<h2>What comes next</h2>
    <ol class="rows" data-testid="mirror-queue">
      ${list.map((one) => html`<li key=${one.asset_id} class="card wide"><div class="row spread">
        <div><a href="#/assets/${one.asset_id}">${one.title || one.asset_id}</a><div class="quiet">${bytes(one.size)}${one.bytes_before ? ` · behind ${bytes(one.bytes_before)}` : ""}${one.priority ? ` · priority ${one.priority}` : ""}</div></div>
        ${may ? html`<div class="row">${PLACES.map(([to, label]) => html`<${Action} key=${to} kind="small" testid="order-${to}" title="${label}: ${one.title || one.asset_id}" run=${move(one, to)}>${label}<//>`)}</div>` : null}
      </div></li>`)}
    </ol>
    ${queue.data.total > list.length ? html`<p class="quiet">The first ${list.length} of ${count(queue.data.total)}, ${bytes(queue.data.bytes)} together.</p>` : null}`;
}

// How far it is. Only a mirror that works has a rate; one that is gone has what it said last.
function Progress({ one }) {
  const { bytes_total: total, bytes_done: done = 0, entries_left: left = 0, bytes_per_second: rate = 0 } = one.gauges;
  const facts = [`${bytes(done)} of ${bytes(total)}`, `${many(left, "asset")} left`];
  if (one.state === "running" && rate > 0) facts.push(`${bytes(rate)}/s`, `${span((total - done) / rate)} to go`);
  return html`<div data-testid="mirror-progress">
    <progress max=${total} value=${done} aria-label="Progress of the mirror"></progress>
    <p>${facts.join(" · ")}${ended(one) ? html` · as of <${Age} at=${one.reported_at} />` : null}</p>
  </div>`;
}

// What waits to be fetched, and how long that takes as far as is known.
function Estimate({ reading }) {
  const cost = reading.data;
  if (!cost || reading.problem) return html`<${Unknown} reading=${reading} words="What waits to be fetched is not known." kind="lead" testid="mirror-estimate" />`;
  if (cost.assets === 0) return html`<p class="lead" data-testid="mirror-estimate">Nothing waits to be fetched. What you request appears here as soon as headquarters has answered.</p>`;
  const long = html`<b>${span(cost.seconds)}</b>`;
  const rate = `${bytes(cost.bytes_per_second)}/s`;
  const time = cost.seconds === null
    ? ", the time is not known before some bytes have moved"
    : cost.rate_from === "cap"
      ? html`, ${long} at best: the link may use ${rate}, and what it can do is not measured yet`
      : html`, ${cost.seconds < 1 ? "" : "about "}${long} at ${rate}, ${cost.rate_from === "link" ? "as the link carried in its busiest minute," : "measured"} <${Age} at=${cost.as_of} />`;
  return html`<p class="lead" data-testid="mirror-estimate">${count(cost.assets)} requested ${cost.assets === 1 ? "asset is" : "assets are"} ready: <b>${bytes(cost.bytes)}</b>${time}.</p>`;
}

export function Mirror({ session }) {
  const mirror = useLive("/api/mirror", "mirror");
  const estimate = useLive("/api/mirror/estimate", null);
  const queue = useLive("/api/mirror/queue?limit=50", null);
  const disk = useVolume();
  const ready = mirror.data?.ready;
  useEffect(() => {
    estimate.reload();
  }, [ready?.assets, ready?.bytes]);
  useEffect(() => {
    queue.reload();
  }, [ready?.assets, ready?.bytes, mirror.data?.ordered_at]);
  const instance = working(mirror.data?.instances)[0];
  const wanted = mirror.data?.desired === "running";
  const { bytes_total: total = 0, bytes_done: done = 0 } = instance?.gauges ?? {};
  const may = session.rights.includes("mirror");
  const told = (what) => () => `The mirror is told to ${what}${ended(instance) ? ", and does so once its process runs again" : ""}.`;
  return html`<${Head} title="Mirror">${instance ? html`<${Chip} state=${instance.state} testid="mirror-state" />` : null}<//>
    <${Notices} of=${[mirror, estimate, queue, disk]} />
    <section class="card wide">
      <${Estimate} reading=${estimate} />
      <p class="quiet">Bytes move only after you start, and until everything that is ready is here. Stopping keeps what has arrived.</p>
      ${total > 0 && (wanted || done < total) ? html`<${Progress} one=${instance} />` : null}
      ${ended(instance) ? html`<div class="notice bad" data-testid="mirror-ended"><strong>The mirror's process has ended, or cannot reach this site.</strong><span>Start it on its machine; its last log lines are under <a href="#/services/mirror">Services</a>.</span></div>` : null}
      ${instance?.detail && instance.state === "waiting" ? html`<div class="notice warn"><strong>It waits: ${instance.detail}</strong></div>` : null}
      ${instance?.last_error ? html`<p class="quiet">Last error (<${Age} at=${instance.last_error_at} />): ${instance.last_error}</p>` : null}
      ${may
        ? html`<div class="row">
            <${Action} kind="primary" testid="mirror-start" disabled=${!mirror.data || wanted} run=${() => post("/api/mirror/start")} done=${told("start")}>Start<//>
            <${Action} testid="mirror-stop" disabled=${!wanted} run=${() => post("/api/mirror/stop")} done=${told("stop")}>Stop<//>
          </div>`
        : html`<p class="quiet">Starting it needs the role field or operator.</p>`}
    </section>
    <${Queue} queue=${queue} may=${may} />
    <p class="quiet">${mirror.data ? `${count(mirror.data.mirrored.assets)} ${mirror.data.mirrored.assets === 1 ? "asset is" : "assets are"} here, ${bytes(mirror.data.mirrored.bytes)}.` : ""}</p>
    <${Disk} reading=${disk} />`;
}

const SHOWN = 200;
// As the site lists them.
const newestFirst = (one, other) => (other.broadcast_at ?? 0) - (one.broadcast_at ?? 0) || (one.asset_id < other.asset_id ? 1 : -1);

// Puts in what has arrived, and takes out what was evicted.
function putDelivered(old, { assets, by_state }) {
  if (!old) return old;
  const changed = new Map((assets ?? []).map((one) => [one.asset_id, one]));
  const here = [...changed.values()].filter((one) => one.state === "mirrored");
  const known = old.assets.filter((one) => changed.has(one.asset_id));
  const total = by_state ? (by_state.mirrored ?? 0) : old.total;
  if (here.length + known.length === 0) return total === old.total ? old : { ...old, total };
  // What comes after those that are shown is not known here.
  if (known.some((one) => changed.get(one.asset_id).state !== "mirrored") && old.total > old.assets.length) return undefined;
  const kept = old.assets.filter((one) => !changed.has(one.asset_id));
  return { ...old, total, assets: [...kept, ...here].sort(newestFirst).slice(0, SHOWN) };
}

function Small({ asset }) {
  const none = html`<span class="no-picture">${asset.media_type ?? "file"}</span>`;
  return asset.has_preview ? html`<${Image} src="/api/assets/${asset.asset_id}/preview" alt="" loading="lazy" none=${none} />` : none;
}

export function Delivered() {
  const list = useLive(`/api/assets?state=mirrored&limit=${SHOWN}`, "assets", putDelivered);
  const disk = useVolume();
  const assets = list.data?.assets ?? [];
  return html`<${Head} title="Delivered"><span class="quiet" data-testid="delivered-total">${list.data ? `${count(list.data.total)} here` : "…"}</span><//>
    <${Notices} of=${[list, disk]} />
    <${Disk} reading=${disk} />
    ${list.data && assets.length === 0 ? html`<${Empty} title="Nothing has arrived yet.">Request assets, then start the mirror.<//>` : null}
    <ul class="gallery" data-testid="gallery">
      ${assets.map((asset) => html`<li key=${asset.asset_id}><a href="#/assets/${asset.asset_id}">
        <${Small} asset=${asset} />
        <span class="clip">${asset.title || asset.file_name}</span><span class="quiet">${bytes(asset.size)}</span></a></li>`)}
    </ul>
    ${assets.length < (list.data?.total ?? 0) ? html`<p class="quiet">The newest ${assets.length} are shown. <a href="#/assets/?state=mirrored">All of them</a></p>` : null}`;
}
