// Headquarters: assets as they pass, who asked for what, and how the edges are.
import { html, useCallback, useState } from "../html.js";
import { get, query } from "../api.js";
import * as live from "../live.js";
import { Age, Chip, Empty, Head, Notice, Thumb, useLive, useTime } from "../ui.js";
import { count, many, refusal, stateName } from "../format.js";

const STAGES = [
  ["feed", "Feed", "announced"],
  ["downloader", "Downloader", "downloaded or failed"],
  ["broadcaster", "Broadcaster", "broadcast to every edge"],
  ["responder", "Responder", "requests answered"],
];

// What is as it should be needs no colour.
const USUAL = new Set(["announced", "downloaded", "broadcast", "ready"]);

function Tile({ tile }) {
  return html`<li><a class="lane-tile" href="#/assets/${tile.asset_id}"><${Thumb} asset=${tile} /><div>
    <b>${tile.title || tile.asset_id}</b>
    <div class="quiet parts">${USUAL.has(tile.state) ? html`<span>${stateName(tile.state)}</span>` : html`<${Chip} state=${tile.state} />`}${tile.site && html`<span>${tile.site}</span>`}<${Age} at=${tile.at} /></div>
  </div></a></li>`;
}

export function Lanes() {
  const { data, problem, reload } = useLive("/api/lanes", "lanes");
  return html`<${Head} title="Lanes" />
    <${Notice} problem=${problem} onRetry=${reload} />
    <div class="lanes">
      ${STAGES.map(([id, name, what]) => html`<section key=${id} data-testid="lane-${id}" aria-label=${name}>
        <h2>${name}</h2><p class="quiet">${what}</p>
        <ul>${(data?.lanes?.[id] ?? []).map((tile) => html`<${Tile} key=${`${tile.asset_id}${tile.site ?? ""}`} tile=${tile} />`)}</ul>
        ${data && !(data.lanes?.[id] ?? []).length ? html`<p class="quiet">Nothing has passed yet.</p>` : null}
      </section>`)}
    </div>`;
}

const PAGE = 100;

// Newest first, as the site lists them. Of what is pushed, that which is older than those shown stays among the rest.
function putRequests(old, { requests }, most) {
  if (!old) return undefined;
  const shown = new Map(old.requests.map((one) => [one.request_id, one]));
  const oldest = old.requests.at(-1)?.requested_at ?? 0;
  for (const one of requests) {
    if (shown.has(one.request_id) || !old.next || (one.requested_at ?? 0) >= oldest) shown.set(one.request_id, one);
  }
  const all = [...shown.values()].sort((a, b) => (b.requested_at ?? 0) - (a.requested_at ?? 0));
  return { ...old, requests: all.slice(0, most), next: all.length > most ? "more" : old.next };
}

// What headquarters has answered to a request.
export function Answer({ one }) {
  if (!one.outcome) return html`<${Chip} state="requested" label="Open" />`;
  return html`<span><${Chip} state=${one.outcome} label=${one.outcome === "ready" ? "Ready" : undefined} /> ${(one.outcome === "refused" ? refusal(one.reason) : one.reason) ?? ""}</span>`;
}

export function Requests() {
  const [most, setMost] = useState(PAGE);
  const read = useCallback(() => get(`/api/requests${query({ limit: most })}`), [most]);
  const { data, problem, loading, reload } = useLive(read, "requests", (old, pushed) => putRequests(old, pushed, most));
  const requests = data?.requests ?? [];
  const known = !data ? "" : data.next || data.older ? `the newest ${count(requests.length)}` : many(requests.length, "request");
  return html`<${Head} title="Requests"><span class="quiet" data-testid="requests-known">${known}</span><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && requests.length === 0 ? html`<${Empty} title="Nobody has asked for anything yet.">Requests of the edges appear here, with what became of them.<//>` : null}
    ${requests.length ? html`<div class="scroll cards" tabindex="0" role="region" aria-label="Requests"><table>
      <thead><tr><th>Edge</th><th>Asset</th><th>Asked</th><th>By</th><th>Answer</th><th>Delivered</th></tr></thead>
      <tbody>${requests.map((one) => html`<tr key=${one.request_id}>
        <td data-label="Edge">${one.site}</td><td data-label="Asset"><a href="#/assets/${one.asset_id}">${one.title || one.asset_id}</a></td><td data-label="Asked"><${Age} at=${one.requested_at} /></td><td data-label="By">${one.requested_by}</td>
        <td data-label="Answer"><${Answer} one=${one} /></td>
        <td data-label="Delivered">${one.delivered_at ? html`<span><${Chip} state="delivered" /> <${Age} at=${one.delivered_at} /></span>` : "–"}</td></tr>`)}</tbody>
    </table></div>` : null}
    ${data?.next ? html`<button type="button" data-testid="earlier-requests" disabled=${loading} onClick=${() => setMost((old) => old + 2 * PAGE)}>Earlier</button>`
      : data?.older ? html`<p class="quiet">Older requests are not listed here; each asset tells who asked for it.</p>` : null}`;
}

// As the site itself judges it, by its own clock: an edge with nothing to say says so every quarter of an hour.
const LATE_MS = 20 * 60 * 1000;
const isLate = (one, now) => !one.revoked_at && (!one.status || now - one.status.heard_at > LATE_MS);
// An edge whose clock is off, or whose word was long on its way: then both times are told.
const APART_MS = 2 * 60 * 1000;
const apart = ({ heard_at: heard, reported_at: said }) => Math.abs(heard - said) > APART_MS;
// Those that somebody should look at come first; then in the order in which people count.
const place = (one, now) => (one.revoked_at ? 3 : isLate(one, now) ? 0 : one.status.problems?.length ? 1 : 2);
const NAMES = new Intl.Collator("en", { numeric: true });

function wrong(one, late) {
  if (one.revoked_at) return one.revoked_reason;
  if (!one.status) return "–";
  const said = one.status.problems?.length ? one.status.problems.join("; ") : "nothing";
  return late ? html`${said} <span class="quiet">as of then</span>` : said;
}

function Edge({ one }) {
  const late = useTime((now) => isLate(one, now));
  const { status } = one;
  return html`<tr data-testid="site-${one.site}">
    <td data-label="Edge"><span><b>${one.site}</b>${one.revoked_at ? html` <${Chip} state="withdrawn" label="Revoked" />` : late ? html` <${Chip} state="waiting" label=${status ? "Silent" : "Never heard of"} />` : null}</span></td>
    <td data-label="Last word">${status ? html`<span><${Age} at=${status.reported_at} />${apart(status) ? html` <span class="quiet" data-testid="heard">by its clock, heard <${Age} at=${status.heard_at} /></span>` : null}</span>` : "never"}</td>
    <td data-label="Knows">${count(status?.assets)}</td><td data-label="Holds">${count(status?.mirrored)}</td><td data-label="Waits for">${count(status?.pending)}</td><td data-label="Lag">${count(status?.lag)}</td><td data-label="Version">${status?.version ?? "–"}</td>
    <td data-label="What is wrong">${html`<span>${wrong(one, late)}</span>`}</td></tr>`;
}

export function Edges() {
  const { data, problem, reload } = useLive("/api/sites", "sites");
  const now = live.now();
  const sites = [...(data?.sites ?? [])].sort((a, b) => place(a, now) - place(b, now) || NAMES.compare(a.site, b.site));
  return html`<${Head} title="Edges"><span class="quiet">${data ? many(sites.length, "edge") : ""}</span><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && sites.length === 0 ? html`<${Empty} title="No edge is enrolled."><code>fieldline site add NAME</code> enrols one.<//>` : null}
    ${sites.length ? html`<p class="quiet">What each edge last said of itself. It knows, holds and waits for assets; its lag is records that waited for its link, both ways.</p>
      <div class="scroll cards" tabindex="0" role="region" aria-label="Edges"><table>
      <thead><tr><th>Edge</th><th>Last word</th><th>Knows</th><th>Holds</th><th>Waits for</th><th>Lag</th><th>Version</th><th>What is wrong there</th></tr></thead>
      <tbody>${sites.map((one) => html`<${Edge} key=${one.site} one=${one} />`)}</tbody>
    </table></div>` : null}`;
}
