// What is wrong, first and in words; then what runs here.
import { html } from "../html.js";
import { Age, Disk, Head, Lasting, Notices, ServiceChip, Unknown, detailOf, useLive, useVolume } from "../ui.js";
import { count, sentence, stateName, stateOrder } from "../format.js";

const PLACES = { "Dead letters": "dead-letters", Assets: "assets", Edges: "edges", Link: "link", Services: "services", "Set-up": "set-up" };
const NAMED = new RegExp(`\\b(${Object.keys(PLACES).join("|")})\\b`);

// What to do, with a way to the view that it names.
function Remedy({ text }) {
  const [before, name, ...after] = sentence(text).split(NAMED);
  return html`<span>${before}${name ? html`<a href="#/${PLACES[name]}">${name}</a>${after.join("")}` : null}</span>`;
}

export function Problems({ problems }) {
  if (!problems) return null;
  // What is only good to know is nothing wrong.
  const wrong = problems.filter((one) => one.severity !== "info");
  const good = problems.filter((one) => one.severity === "info");
  return html`<section aria-labelledby="problems-title" data-testid="problems" data-count=${wrong.length}>
    <h2 id="problems-title" class="hidden">What is wrong</h2>
    ${wrong.length === 0
      ? html`<p class="all-well"><span aria-hidden="true">✓</span> All is well.</p>`
      : wrong.map((one) => html`<div key=${one.what} class="notice ${one.severity === "error" ? "bad" : "warn"}"><strong>${one.what}</strong><${Remedy} text=${one.remedy} /></div>`)}
    ${good.map((one) => html`<p key=${one.what} class="quiet note">${one.what}: ${one.remedy}.</p>`)}
  </section>`;
}

const ORDER = ["feed", "downloader", "broadcaster", "responder", "depot", "listener", "requester", "mirror", "link", "viewer"];

// Of two instances of a service that which works says how it is, as the site itself takes it; of others, the newer word.
const better = (one, other) => (one.state === "running") - (other.state === "running") || one.reported_at - other.reported_at;

export function working(services) {
  const byName = new Map();
  for (const one of services ?? []) {
    const known = byName.get(one.service);
    if (!known || better(one, known) > 0) byName.set(one.service, one);
  }
  const place = (name) => (ORDER.indexOf(name) + 1 || 99);
  return [...byName.values()].sort((a, b) => place(a.service) - place(b.service));
}

const HOME = { mirror: "mirror", link: "link", feed: "lanes", downloader: "lanes", broadcaster: "lanes", responder: "requests" };

export function Home({ session }) {
  const status = useLive("/api/status", "problems", (old, pushed) => old && { ...old, problems: pushed.problems });
  const services = useLive("/api/services", "services");
  const assets = useLive("/api/assets?limit=1", "assets", (old, pushed) => ({ ...old, by_state: pushed.by_state ?? old?.by_state }));
  const edge = session.kind === "edge";
  const disk = useVolume(edge);
  const states = Object.entries(assets.data?.by_state ?? {}).sort(([one], [other]) => stateOrder(one, other));
  return html`<${Head} title="Overview" />
    <${Notices} of=${[status, services, assets, disk]} />
    <${Problems} problems=${status.data?.problems} />
    <section aria-labelledby="services-title">
      <h2 id="services-title">Services</h2>
      ${services.data ? null : html`<${Unknown} reading=${services} />`}
      <ul class="tiles">
        ${working(services.data?.services).map((one) => html`<li key=${one.service}>
          <a class="tile" href="#/${HOME[one.service] ?? `services/${one.service}`}" data-testid="service-${one.service}">
            <b>${one.service}</b><${ServiceChip} one=${one} />
            <span class="quiet clip">${detailOf(one) ?? one.last_error ?? (one.state === "silent" ? html`last word <${Age} at=${one.reported_at} />` : html`up for <${Lasting} since=${one.started_at} />`)}</span>
          </a></li>`)}
      </ul>
    </section>
    <section aria-labelledby="assets-title">
      <h2 id="assets-title">Assets</h2>
      ${!assets.data
        ? html`<${Unknown} reading=${assets} />`
        : states.length === 0
        ? html`<p class="quiet">None yet. They appear here as soon as headquarters announces some.</p>`
        : html`<ul class="tiles small">${states.map(([state, number]) => html`<li key=${state}><a class="tile" href="#/assets/?state=${state}"><b class="figure">${count(number)}</b><span>${stateName(state)}</span></a></li>`)}</ul>`}
    </section>
    ${edge ? html`<section aria-labelledby="disk-title"><h2 id="disk-title">Disk</h2><${Disk} reading=${disk} /></section>` : null}`;
}
