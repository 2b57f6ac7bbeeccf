// What a field team decides: when bytes move. And what has arrived.
import { html, useEffect } from "../html.js";
import { post } from "../api.js";
import * as live from "../live.js";
import { Action, Age, Chip, Disk, Empty, Head, Notice, useLive } from "../ui.js";
import { bytes, count, span } from "../format.js";
import { newest } from "./home.js";

const one = (state) => newest(state?.instances)[0];
const gauge = (instance, name) => instance?.gauges?.[name];

const PLACES = [["first", "First"], ["up", "Up"], ["down", "Down"], ["last", "Last"]];

// What is to come, in its order; the buttons say when.
function Queue({ may, ready }) {
  const queue = useLive("/api/mirror/queue?limit=50", null);
  useEffect(() => {
    queue.reload();
  }, [ready?.assets, ready?.bytes]);
  const list = queue.data?.queue ?? [];
  if (list.length === 0) return html`<${Notice} problem=${queue.problem} onRetry=${queue.reload} />`;
  const move = (one, to) => async () => {
    await post(`/api/assets/${one.asset_id}/order`, { to });
    await queue.reload();
  };
  return html`<h2>What comes next</h2>
    <${Notice} problem=${queue.problem} onRetry=${queue.reload} />
    <ol class="rows" data-testid="mirror-queue">
      ${list.map((one) => html`<li key=${one.asset_id} class="card wide"><div class="row spread">
        <div><a href="#/assets/${one.asset_id}">${one.title || one.asset_id}</a><div class="quiet">${bytes(one.size)}${one.bytes_before ? ` · behind ${bytes(one.bytes_before)}` : ""}${one.priority ? ` · priority ${one.priority}` : ""}</div></div>
        ${may ? html`<div class="row">${PLACES.map(([to, label]) => html`<${Action} key=${to} kind="small" testid="order-${to}" title="${label}: ${one.title || one.asset_id}" run=${move(one, to)}>${label}<//>`)}</div>` : null}
      </div></li>`)}
    </ol>
    ${queue.data.total > list.length ? html`<p class="quiet">The first ${list.length} of ${count(queue.data.total)}, ${bytes(queue.data.bytes)} together.</p>` : null}`;
}

export function Mirror({ session }) {
  const mirror = useLive("/api/mirror", "mirror");
  const estimate = useLive("/api/mirror/estimate", null);
  const ready = mirror.data?.ready;
  useEffect(() => {
    estimate.reload();
  }, [ready?.assets, ready?.bytes]);
  const instance = one(mirror.data);
  const working = mirror.data?.desired === "running";
  const total = gauge(instance, "bytes_total") ?? 0;
  const done = gauge(instance, "bytes_done") ?? 0;
  const rate = gauge(instance, "bytes_per_second") ?? 0;
  const left = gauge(instance, "entries_left") ?? 0;
  const may = session.rights.includes("mirror");
  const cost = estimate.data;
  return html`<${Head} title="Mirror">${instance ? html`<${Chip} state=${instance.state} testid="mirror-state" />` : null}<//>
    <${Notice} problem=${mirror.problem} onRetry=${mirror.reload} />
    <section class="card wide">
      ${cost && cost.assets > 0
        ? html`<p class="lead" data-testid="mirror-estimate">${count(cost.assets)} requested ${cost.assets === 1 ? "asset is" : "assets are"} ready: <b>${bytes(cost.bytes)}</b>${cost.seconds !== null ? html`, ${cost.seconds < 1 ? "" : "about "}<b>${span(cost.seconds)}</b> at ${bytes(cost.bytes_per_second)}/s, measured <${Age} at=${cost.as_of} />` : ", the time is not known before some bytes have moved"}.</p>`
        : html`<p class="lead" data-testid="mirror-estimate">Nothing waits to be fetched. What you request appears here as soon as headquarters has answered.</p>`}
      <p class="quiet">Bytes move only after you start, and until everything that is ready is here. Stopping keeps what has arrived.</p>
      ${total > 0 && (working || done < total)
        ? html`<div data-testid="mirror-progress">
            <progress max=${Math.max(total, 1)} value=${done} aria-label="Progress of the mirror"></progress>
            <p>${bytes(done)} of ${bytes(total)} · ${count(left)} left · ${bytes(rate)}/s${rate > 0 ? ` · ${span((total - done) / rate)} to go` : ""}</p>
          </div>`
        : null}
      ${instance?.detail && instance.state === "waiting" ? html`<div class="notice warn"><strong>It waits: ${instance.detail}</strong></div>` : null}
      ${instance?.last_error ? html`<p class="quiet">Last error (<${Age} at=${instance.last_error_at} />): ${instance.last_error}</p>` : null}
      ${may
        ? html`<div class="row">
            <${Action} kind="primary" testid="mirror-start" disabled=${working} run=${() => post("/api/mirror/start")} done="The mirror starts.">Start<//>
            <${Action} testid="mirror-stop" disabled=${!working} run=${() => post("/api/mirror/stop")} done="The mirror stops.">Stop<//>
          </div>`
        : html`<p class="quiet">Starting it needs the role field or operator.</p>`}
    </section>
    <${Queue} may=${may} ready=${ready} />
    <p class="quiet">${mirror.data ? `${count(mirror.data.mirrored.assets)} ${mirror.data.mirrored.assets === 1 ? "asset is" : "assets are"} here, ${bytes(mirror.data.mirrored.bytes)}.` : ""}</p>
    <${Disk} />`;
}

export function Delivered() {
  const list = useLive("/api/assets?state=mirrored&limit=200", null);
  useEffect(() => live.on("assets", ({ assets }) => (assets ?? []).some((asset) => asset.state === "mirrored") && list.reload()), [list.reload]);
  const assets = list.data?.assets ?? [];
  return html`<${Head} title="Delivered"><span class="quiet">${count(list.data?.total ?? 0)} here</span><//>
    <${Notice} problem=${list.problem} onRetry=${list.reload} />
    <${Disk} />
    ${list.data && assets.length === 0 ? html`<${Empty} title="Nothing has arrived yet.">Request assets, then start the mirror.<//>` : null}
    <ul class="gallery" data-testid="gallery">
      ${assets.map((asset) => html`<li key=${asset.asset_id}><a href="#/assets/${asset.asset_id}">
        ${asset.has_preview ? html`<img src="/api/assets/${asset.asset_id}/preview" alt="" loading="lazy" />` : html`<span class="no-picture">${asset.media_type ?? "file"}</span>`}
        <span class="clip">${asset.title || asset.file_name}</span><span class="quiet">${bytes(asset.size)}</span></a></li>`)}
    </ul>
    ${assets.length < (list.data?.total ?? 0) ? html`<p class="quiet">The newest ${assets.length} are shown. <a href="#/assets/?state=mirrored">All of them</a></p>` : null}`;
}
