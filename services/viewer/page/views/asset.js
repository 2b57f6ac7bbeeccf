// One asset: what it is, what became of it, and what can be done with it.
import { html, useEffect, useState } from "../html.js";
import { post } from "../api.js";
import * as live from "../live.js";
import { Action, Age, Chip, Head, Image, Notice, ask, takes, useLive } from "../ui.js";
import { Answer } from "./core.js";
import { bytes, moment, refusal } from "../format.js";

const SHOWN = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;
const PLAYED = /^(video|audio)\//;
// What announced, failed and withdrawn assets have not, headquarters refuses to set.
const EXPIRING = new Set(["downloaded", "broadcast", "expired"]);

function Facts({ facts }) {
  return html`<dl class="facts">${facts.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Preview({ asset, none }) {
  const without = html`<div class="no-picture">${none}</div>`;
  if (!asset.has_preview) return without;
  return html`<${Image} class="small-preview" src="/api/assets/${asset.asset_id}/preview" alt="Preview of ${asset.title || "the asset"}" none=${without} />`;
}

// A file that is here: a picture, a film or a sound; of others, and of what this browser cannot play, that it is to be saved.
function Content({ asset, source }) {
  const [broken, setBroken] = useState(false);
  const [kind] = PLAYED.exec(asset.media_type ?? "") ?? [];
  const name = asset.title || asset.file_name || "the asset";
  if (SHOWN.test(asset.media_type ?? "")) return html`<a href=${source} target="_blank" rel="noopener"><${Image} src=${source} alt=${name} data-testid="full-size" none=${html`<div class="no-picture">The picture cannot be shown here: save it to open it.</div>`} /></a>`;
  if (!kind || broken) return html`<${Preview} asset=${asset} none=${broken ? "This browser cannot play this file: save it to open it." : "This kind of file is not shown here: save it to open it."} />`;
  const facts = { src: source, controls: true, preload: "metadata", "aria-label": name, "data-testid": "player", onError: () => setBroken(true) };
  return kind === "video/" ? html`<video ...${facts}></video>` : html`<audio ...${facts}></audio>`;
}

function Deliveries({ deliveries }) {
  if (!deliveries?.length) return html`<p class="quiet">Nobody has asked for it yet.</p>`;
  return html`<div class="scroll cards" tabindex="0" role="region" aria-label="Who asked for it"><table>
    <thead><tr><th>Edge</th><th>Asked</th><th>By</th><th>Answer</th><th>Delivered</th></tr></thead>
    <tbody>${deliveries.map((one) => html`<tr key=${one.request_id}><td data-label="Edge">${one.site}</td><td data-label="Asked"><${Age} at=${one.requested_at} /></td><td data-label="By">${one.requested_by}</td>
      <td data-label="Answer"><${Answer} one=${one} /></td><td data-label="Delivered">${one.delivered_at ? html`<${Age} at=${one.delivered_at} />` : "–"}</td></tr>`)}</tbody>
  </table></div>`;
}

function Cost({ cost }) {
  const { time, from } = takes(cost.bytes, cost);
  return html`<p class="quiet" data-testid="cost">It will cost ${bytes(cost.bytes)}${time}${from}.</p>`;
}

export function Asset({ session, rest }) {
  const id = rest[0];
  const { data: asset, problem, reload } = useLive(`/api/assets/${encodeURIComponent(id)}`, null);
  useEffect(() => live.on("assets", ({ assets }) => (assets ?? []).some((one) => one.asset_id === id) && reload()), [id, reload]);
  const may = (right) => session.rights.includes(right);
  const askable = session.kind === "edge" && ["available", "refused", "cancelled"].includes(asset?.state);
  const { data: cost } = useLive(askable ? `/api/mirror/estimate?ids=${encodeURIComponent(id)}` : null, null);
  if (!asset) return html`<${Head} title="Asset" /><${Notice} problem=${problem} onRetry=${reload} />`;
  const edge = session.kind === "edge";
  const whole = edge ? asset.state === "mirrored" : asset.hash && asset.state !== "failed";
  const content = `/api/assets/${asset.asset_id}/content`;
  const change = (what, body) => async () => {
    const answer = await post(`/api/assets/${asset.asset_id}/${what}`, body);
    await reload();
    return answer;
  };
  const withdraw = async () => {
    const said = await ask({ title: "Withdraw this asset?", text: "No edge can request it any more. What an edge already holds stays there.", confirm: "Withdraw", kind: "danger", fields: [{ name: "reason", label: "Reason, which every edge sees", required: true }] });
    return said ? change("withdraw", { reason: said.reason })() : false;
  };
  const expiry = async () => {
    const said = await ask({ title: "Until when may it be requested?", text: "Leave it empty for the usual time.", confirm: "Set", fields: [{ name: "at", label: "Expires", type: "datetime-local" }] });
    return said ? change("expiry", { expires_at: said.at ? new Date(said.at).getTime() : null })() : false;
  };
  const evict = async () => {
    const text = `Its ${bytes(asset.size)} are deleted from this site. To have it here again it must be requested, and cross the link once more.`;
    return (await ask({ title: "Evict this asset?", text, confirm: "Evict", kind: "danger" })) ? change("evict")() : false;
  };
  return html`<${Head} title=${asset.title || asset.file_name || "Asset"}><a class="button" href="#/assets">All assets</a><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    <div class="asset-detail">
      <div>
      <figure>
        ${whole
          ? html`<${Content} asset=${asset} source=${content} />`
          : html`<${Preview} asset=${asset} none="No preview" />`}
      </figure>
      ${edge ? null : html`<h2>Who asked for it</h2><${Deliveries} deliveries=${asset.deliveries} />`}
      </div>
      <section>
        <p><${Chip} state=${asset.state} testid="state" /> ${(asset.state === "refused" ? refusal(asset.reason) : asset.reason) ?? ""}</p>
        <div class="row">
          ${whole ? html`<a class="button" href="${content}?download=true" download>Save ${bytes(asset.size)}</a>` : null}
          ${edge && may("request") && ["available", "refused", "cancelled"].includes(asset.state) ? html`<${Action} kind="primary" testid="request" run=${change("request")} done="Requested.">Request<//>` : null}
          ${edge && may("request") && ["requesting", "requested", "ready"].includes(asset.state) ? html`<${Action} testid="cancel" run=${change("cancel")} done="Cancelled.">Cancel<//>` : null}
          ${edge && may("evict") && asset.state === "mirrored" ? html`<${Action} testid="evict" run=${evict} done="Its bytes are gone from this site.">Evict<//>` : null}
          ${edge && may("evict") && ["requesting", "requested", "ready", "mirrored"].includes(asset.state) ? html`<${Action} testid="pin" title="What is pinned is never evicted to make room" run=${change(asset.pinned_at ? "unpin" : "pin")} done=${asset.pinned_at ? "Unpinned." : "Pinned."}>${asset.pinned_at ? "Unpin" : "Pin"}<//>` : null}
          ${!edge && may("withdraw") && EXPIRING.has(asset.state) ? html`<${Action} testid="expiry" run=${expiry} done="Set.">Set expiry<//>` : null}
          ${!edge && may("withdraw") && !["withdrawn", "failed"].includes(asset.state) ? html`<${Action} kind="danger" testid="withdraw" run=${withdraw} done="Withdrawn.">Withdraw<//>` : null}
        </div>
        ${askable && cost?.assets && may("request") ? html`<${Cost} cost=${cost} />` : null}
        ${asset.description ? html`<p class="description">${asset.description}</p>` : null}
        <${Facts} facts=${[
          ["Size", bytes(asset.size)], ["Type", asset.media_type], ["File", asset.file_name], ["Credit", asset.credit], ["Created", moment(asset.created_at)],
          ["Announced", moment(asset.announced_at)], ["Downloaded", moment(asset.downloaded_at)], ["Broadcast", moment(asset.broadcast_at)], ["Expires", moment(asset.expires_at)], ["Withdrawn", moment(asset.withdrawn_at)],
          ["Requested", asset.requesting_at && `${moment(asset.requesting_at)}${asset.requested_by ? ` by ${asset.requested_by}` : ""}`], ["Sent to headquarters", moment(asset.requested_at)],
          ["Answered", moment(asset.responded_at)], ["Arrived", moment(asset.mirrored_at)], ["Pinned", moment(asset.pinned_at)], ["Catalogue", asset.catalogue], ["Checksum (BLAKE3)", asset.hash && html`<code class="hash">${asset.hash}</code>`],
        ]} />
      </section>
    </div>`;
}
