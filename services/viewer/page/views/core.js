// Headquarters: assets as they pass, who asked for what, and how the edges are.
import { html, useEffect, useState } from "../html.js";
import { get, query } from "../api.js";
import * as live from "../live.js";
import { Age, Chip, Empty, Head, Notice, Thumb, useLive } from "../ui.js";
import { count, stateName } from "../format.js";

const STAGES = [
  ["feed", "Feed", "announced"],
  ["downloader", "Downloader", "downloaded or failed"],
  ["broadcaster", "Broadcaster", "broadcast to every edge"],
  ["responder", "Responder", "requests answered"],
];

// What is known of assets that are only named: read once each, and kept while the page is open.
const MANY = 2000;
const known = new Map();
const note = (asset) => {
  if (known.size >= MANY) known.delete(known.keys().next().value);
  known.set(asset.asset_id, asset);
};

function useAssets(ids) {
  const [, draw] = useState(0);
  const missing = [...new Set(ids)].filter((id) => !known.has(id)).slice(0, 50);
  useEffect(() => {
    if (!missing.length) return undefined;
    let gone = false;
    const one = (id) => get(`/api/assets/${id}`).then(note, () => note({ asset_id: id }));
    Promise.all(missing.map(one)).then(() => gone || draw((number) => number + 1));
    return () => (gone = true);
  }, [missing.join()]);
  useEffect(() => live.on("assets", ({ assets }) => {
    const shown = (assets ?? []).filter((asset) => known.has(asset.asset_id));
    shown.forEach((asset) => known.set(asset.asset_id, { ...known.get(asset.asset_id), ...asset }));
    if (shown.length) draw((number) => number + 1);
  }), []);
  return known;
}

// What is as it should be needs no colour.
const USUAL = new Set(["announced", "downloaded", "broadcast", "ready"]);

function Tile({ tile, asset }) {
  return html`<li><a class="lane-tile" href="#/assets/${tile.asset_id}"><${Thumb} asset=${asset} /><div>
    <b>${tile.title || tile.asset_id}</b>
    <div class="quiet">${USUAL.has(tile.state) ? stateName(tile.state) : html`<${Chip} state=${tile.state} />`}${tile.site && html` · <span class="whole">${tile.site}</span>`} · <${Age} at=${tile.at} /></div>
  </div></a></li>`;
}

export function Lanes() {
  const { data, problem, reload } = useLive("/api/lanes", "lanes");
  const assets = useAssets(Object.values(data?.lanes ?? {}).flatMap((tiles) => tiles.map((tile) => tile.asset_id)));
  return html`<${Head} title="Lanes" />
    <${Notice} problem=${problem} onRetry=${reload} />
    <div class="lanes">
      ${STAGES.map(([id, name, what]) => html`<section key=${id} data-testid="lane-${id}" aria-label=${name}>
        <h2>${name}</h2><p class="quiet">${what}</p>
        <ul>${(data?.lanes?.[id] ?? []).map((tile) => html`<${Tile} key=${`${tile.asset_id}${tile.site ?? ""}`} tile=${tile} asset=${assets.get(tile.asset_id)} />`)}</ul>
        ${data && !(data.lanes?.[id] ?? []).length ? html`<p class="quiet">Nothing has passed yet.</p>` : null}
      </section>`)}
    </div>`;
}

const SITES = 50;

// The requests of all edges, each edge's newest.
async function readRequests() {
  const { sites } = await get("/api/sites");
  const pages = await Promise.all(sites.slice(0, SITES).map((one) => get(`/api/requests${query({ site: one.site, limit: 500 })}`)));
  return { requests: pages.flatMap((page) => page.requests), next: pages.some((page) => page.next) || sites.length > SITES };
}

function putRequests(old, { requests }) {
  const changed = new Set(requests.map((one) => one.request_id));
  return old && { ...old, requests: [...requests, ...old.requests.filter((one) => !changed.has(one.request_id))] };
}

export function Requests() {
  const { data, problem, reload } = useLive(readRequests, "requests", putRequests);
  const requests = [...(data?.requests ?? [])].sort((a, b) => (b.requested_at ?? 0) - (a.requested_at ?? 0));
  const assets = useAssets(requests.slice(0, MANY).map((one) => one.asset_id));
  return html`<${Head} title="Requests"><span class="quiet">${count(requests.length)}${data?.next ? "+" : ""}</span><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && requests.length === 0 ? html`<${Empty} title="Nobody has asked for anything yet.">Requests of the edges appear here, with what became of them.<//>` : null}
    ${requests.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Requests"><table>
      <thead><tr><th>Edge</th><th>Asset</th><th>Asked</th><th>By</th><th>Answer</th><th>Delivered</th></tr></thead>
      <tbody>${requests.map((one) => html`<tr key=${one.request_id}>
        <td>${one.site}</td><td><a href="#/assets/${one.asset_id}">${assets.get(one.asset_id)?.title || one.asset_id}</a></td><td><${Age} at=${one.requested_at} /></td><td>${one.requested_by}</td>
        <td>${one.outcome ? html`<${Chip} state=${one.outcome} label=${one.outcome} /> ${one.reason ?? ""}` : html`<${Chip} state="requested" label="open" />`}</td>
        <td>${one.delivered_at ? html`<${Chip} state="delivered" label="delivered" /> <${Age} at=${one.delivered_at} />` : "–"}</td></tr>`)}</tbody>
    </table></div>` : null}`;
}

export function Edges() {
  const { data, problem, reload } = useLive("/api/sites", "sites");
  const sites = data?.sites ?? [];
  return html`<${Head} title="Edges"><span class="quiet">${count(sites.length)}</span><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && sites.length === 0 ? html`<${Empty} title="No edge is enrolled."><code>fieldline site add NAME</code> enrols one.<//>` : null}
    ${sites.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Edges"><table>
      <thead><tr><th>Edge</th><th>Last word</th><th>Knows</th><th>Holds</th><th>Waits for</th><th>Version</th><th>What is wrong there</th></tr></thead>
      <tbody>${sites.map((one) => html`<tr key=${one.site} data-testid="site-${one.site}">
        <td><b>${one.site}</b>${one.revoked_at ? html` <${Chip} state="withdrawn" label="revoked" />` : null}</td>
        <td>${one.status ? html`<${Age} at=${one.status.reported_at} />` : "never"}</td>
        <td>${count(one.status?.assets)} assets</td><td>${count(one.status?.mirrored)}</td><td>${count(one.status?.pending)}</td><td>${one.status?.version ?? "–"}</td>
        <td>${one.revoked_at ? one.revoked_reason : one.status?.problems?.length ? one.status.problems.join("; ") : one.status ? "nothing" : "–"}</td></tr>`)}</tbody>
    </table></div>` : null}`;
}
