// The link: how it is, what waits, what it may use, and how it was.
import { html, useState } from "../html.js";
import { post } from "../api.js";
import { Chart } from "../chart.js";
import { Action, Age, Chip, Head, Notices, Unknown, ask, ended, useLive } from "../ui.js";
import { bytes, count, moment, sentence, span } from "../format.js";
import { working } from "./home.js";

const WORDS = { up: "Up", down: "Down", paused: "Paused", not_connected: "Not connected" };
const ROUTES = {
  broadcasts: "what headquarters offers, with small pictures",
  responses: "headquarters' answers to requests",
  requests: "what this site asks for, and what has arrived",
  status: "how this site is",
};
const CLASSES = {
  requests: "Requests, receipts, status",
  responses: "Answers",
  broadcasts: "What there is",
  sensors: "Sensor readings",
  previews: "Small pictures",
  backlog: "Records from an outage",
  assets: "Files",
};
// Young enough to be no lag to speak of.
const SOON_S = 15;

const hours = (value) => span(value * 3600);
const records = (value) => `${count(value)} ${value === 1 ? "record" : "records"}`;
const known = (value) => value !== null && value !== undefined;

function describe(route) {
  const live = route.name.endsWith(".backlog") ? route.name.slice(0, -".backlog".length) : null;
  if (live) return `what ${live} left from outages`;
  return ROUTES[route.name] ?? { up: "to headquarters", down: "from headquarters" }[route.direction] ?? "";
}

function waits(route) {
  if (!known(route.lag_records)) return "How much waits is not known yet.";
  if (route.lag_records === 0) return "Nothing waits.";
  const parts = [`${records(route.lag_records)} ${route.lag_records === 1 ? "waits" : "wait"}`];
  if (route.lag_bytes) parts.push(`about ${bytes(route.lag_bytes)}`);
  if (route.lag_seconds) parts.push(`the oldest ${span(route.lag_seconds)} old`);
  return parts.join(", ");
}

function catchUp(route, state) {
  if (!route.lag_records || route.paused || state !== "up") return "";
  if (!known(route.catch_up_seconds)) return (route.lag_seconds ?? 0) > SOON_S ? " It does not get less." : "";
  return route.catch_up_seconds < 1 ? "" : ` Caught up in about ${span(route.catch_up_seconds)}.`;
}

const routeState = (route, link) => (route.paused ? "paused" : link !== "up" ? (route.lag_records ? "waits" : null) : (route.lag_seconds ?? 0) > SOON_S && route.lag_records ? "behind" : known(route.lag_records) ? "keeps up" : "waiting");

const ROUTE_CHIPS = { paused: ["paused", "Paused"], waits: ["waiting", "Waits"], behind: ["waiting", "Behind"], "keeps up": ["running", "Keeps up"], waiting: ["calm", "Not known yet"] };

function RouteChip({ route, link }) {
  const [state, label] = ROUTE_CHIPS[routeState(route, link)] ?? [];
  return label ? html`<${Chip} state=${state} label=${label} testid="route-${route.name}-state" />` : null;
}

function Routes({ link, may }) {
  const routes = link.limits.routes;
  const backlog = (route) => route.name.endsWith(".backlog");
  const set = (route, state) => () => post("/api/link", { routes: { [route.name]: state } });
  const classOf = (route) => async () => {
    const key = `class/${route.name}`;
    const options = [...Object.entries(CLASSES), ...(link.limits.set[key] ? [["", "as the settings file says"]] : [])];
    const run = async ({ value }) => post("/api/link", value ? { classes: { [route.name]: value } } : { as_configured: [key] });
    const text = "What goes before it and after it while more waits than may cross. The link carries on from where it is.";
    return (await ask({ title: `Class of ${route.name}`, text, confirm: "Set", fields: [{ name: "value", label: "Class, the first before all others", options, value: route.class }], run })) !== null;
  };
  const first = (route) => () => post("/api/link", { live_first: { [route.name]: !route.live_first } });
  return html`<section aria-labelledby="routes-title">
    <h2 id="routes-title">Routes</h2>
    ${link.state === "up" || !link.last_contact_at || !known(link.lag.down) ? null : html`<p class="quiet">What waits here is as it is now; what waits at headquarters is as of <${Age} at=${link.last_contact_at} />.</p>`}
    <ul class="rows" data-testid="routes">
      ${routes.map((route) => html`<li key=${route.name} class="card wide" data-testid="route-${route.name}"><div class="row spread">
        <div><b>${route.name}</b> <${RouteChip} route=${route} link=${link.state} />
          <span class="quiet"> ${describe(route)}</span>
          ${route.class ? html`<span class="quiet" data-testid="route-${route.name}-in"> · in class: ${CLASSES[route.class]}</span>` : null}
          ${route.live_first ? html`<span class="quiet" data-testid="route-${route.name}-first"> · what comes in goes first</span>` : null}
          <div class="figures">${waits(route)}${known(route.lag_records) && route.lag_records !== 0 ? "." : ""}${catchUp(route, link.state)}</div></div>
        ${may && !backlog(route)
          ? html`<div class="row">${route.class ? html`<${Action} kind="small" testid="route-${route.name}-class" title="${route.name}: what goes before it and after it" run=${classOf(route)} done="The class of ${route.name} is set.">Class<//>` : null}
            ${known(route.live_first) ? html`<${Action} kind="small" testid="route-${route.name}-live-first" pressed=${route.live_first} title="${route.name}: what comes in goes before what waits from an outage, which then goes to a topic of its own" run=${first(route)} done=${route.live_first ? `All of ${route.name} goes in its order.` : `What comes in on ${route.name} goes first.`}>Live first<//>` : null}
          ${route.paused
            ? html`<${Action} kind="small primary" testid="route-${route.name}-resume" title="Resume ${route.name}" run=${set(route, "running")} done="${route.name} goes on.">Resume<//>`
            : html`<${Action} kind="small" testid="route-${route.name}-pause" title="Pause ${route.name}" run=${set(route, "paused")} done="${route.name} pauses; nothing of it is lost.">Pause<//>`}</div>`
          : null}
      </div></li>`)}
    </ul>
  </section>`;
}

function when(loss) {
  const what = loss.topic === null ? "the disk is full, and nothing more is taken" : loss.by === "size" ? `the oldest of ${loss.topic} go, for the topic is full` : `the oldest of ${loss.topic} go, for they are too old`;
  return loss.hours <= 0 ? `${what} now` : `in about ${hours(loss.hours)} ${what}`;
}

function Buffer({ buffer }) {
  const [first, ...later] = buffer.first;
  return html`<section aria-labelledby="buffer-title" data-testid="buffer">
    <h2 id="buffer-title">How long this site can wait</h2>
    <div class="card wide">
      ${first
        ? html`<p class="lead">This site holds what waits for <b class=${first.hours < 24 ? "bad-text whole" : "whole"}>${hours(first.hours)}</b> more.</p>
          <p>If headquarters stayed away from now on, ${when(first)}.</p>
          ${later.length ? html`<p class="quiet">Then: ${later.map(when).join("; ")}.</p>` : null}`
        : html`<p class="lead">Nothing that waits here would be lost, as far as is known.</p>`}
      <p class="quiet">Estimated from what came in over the last day, and from how long topics keep records.</p>
    </div>
  </section>`;
}

const LIMITS = [
  ["cap", "Bytes a second", (limits) => (known(limits.cap) ? `at most ${bytes(limits.cap)}/s` : "no limit") + busiest(limits), "As 32KB; empty for no limit.", "both directions together; at or below what the line carries, for classes to keep their order"],
  ["windows", "When it may be used", windows, 'As "mon-fri 22:00-06:00", with ; between several; empty for always.', "outside these times nothing crosses"],
  ["zone", "Time zone", ({ zone }) => zone ?? "not known yet", "As Europe/Berlin; empty for what the settings file says.", "in which times are meant, and days and months begin"],
  ["per_day", "Bytes a day", (limits) => (known(limits.day.limit) ? `at most ${bytes(limits.day.limit)}` : "no limit"), "As 200MB; empty for no limit.", "then the link rests until midnight"],
  ["share", "What the lower get", (limits) => (known(limits.share) ? `${limits.share} % each, at least` : "not known yet"), "In percent, 1 to 15.", "while what goes before them could take everything"],
  ["per_month", "Bytes a month", (limits) => (known(limits.month.limit) ? `at most ${bytes(limits.month.limit)}` : "no limit"), "As 5GB; empty for no limit.", "then the link rests until the month ends"],
];

// A cap wants to be a little below what the line carries, which nobody may know.
const busiest = ({ busiest_bytes_per_second: rate }) => (rate ? `; in the last hour's busiest minute ${bytes(rate)}/s crossed` : "");

function windows({ windows: spans, zone }) {
  if (!zone) return "not known yet";
  return spans.length ? `${spans.join("; ")} (${zone})` : "always";
}

// What somebody set while it worked, and the way back.
function SetBy({ set, keyed, may, label }) {
  if (!set) return null;
  return html`<span class="quiet">set by ${set.by ?? "somebody"} <${Age} at=${set.at} /></span>
    ${may ? html`<${Action} kind="small" testid="as-configured-${keyed}" title="${label}: as the settings file says" run=${() => post("/api/link", { as_configured: [`budget/${keyed}`] })} done="As the settings file says.">As configured<//>` : null}`;
}

function Limit({ limits, may, limit: [key, label, say, hint, why] }) {
  const set = limits.set[`budget/${key}`];
  const change = async () => {
    const now = set?.value ?? { windows: limits.windows, zone: limits.zone, share: limits.share }[key];
    const value = Array.isArray(now) ? now.join("; ") : known(now) ? `${now}` : "";
    const said = await ask({ title: label, text: hint, confirm: "Set", fields: [{ name: "value", label, value }] });
    if (!said) return false;
    const text = said.value.trim();
    if (key === "zone" && !text) return post("/api/link", { as_configured: ["budget/zone"] });
    const wanted = key === "windows" ? text.split(";").map((one) => one.trim()).filter(Boolean) : key === "share" ? Number.parseInt(text, 10) : text || null;
    return post("/api/link", { budget: { [key]: wanted } });
  };
  return html`<li class="row spread" data-testid="limit-${key}">
    <div><b>${label}</b> <span class="quiet">${why}</span><div class="figures" data-testid="limit-${key}-value">${say(limits)}</div></div>
    <div class="row"><${SetBy} set=${set} keyed=${key} may=${may} label=${label} />
      ${may ? html`<${Action} kind="small" testid="limit-${key}-change" title="Change: ${label}" run=${change} done="It is set, and stays so after a restart.">Change<//>` : null}</div>
  </li>`;
}

function Limits({ limits, may }) {
  const metered = async () => {
    await post("/api/link", { budget: { metered: !limits.metered } });
  };
  const allow = async () => {
    const said = await ask({ title: "Let bulk cross", text: "So many bytes of small pictures, records from an outage and files may cross from now on.", confirm: "Allow", fields: [{ name: "allow", label: "Bytes, as 20MB", required: true }] });
    if (!said) return false;
    return post("/api/link", { allow: said.allow.trim() });
  };
  return html`<section aria-labelledby="limits-title">
    <h2 id="limits-title">What it may use</h2>
    <ul class="card wide limits">
      ${LIMITS.map((limit) => html`<${Limit} key=${limit[0]} limits=${limits} may=${may} limit=${limit} />`)}
      <li class="row spread" data-testid="limit-metered">
        <div><b>Metered</b> <span class="quiet">bytes cost money here, so bulk waits until somebody allows it</span>
          <div class="figures" data-testid="limit-metered-value">${limits.metered ? `yes; ${bytes(limits.allowed_bytes ?? 0)} of bulk may still cross` : "no"}</div></div>
        <div class="row"><${SetBy} set=${limits.set["budget/metered"]} keyed="metered" may=${may} label="Metered" />
          ${may
            ? html`${limits.metered ? html`<${Action} kind="small primary" testid="allow" run=${allow} done="It may cross.">Allow bulk<//>` : null}
              <${Action} kind="small" testid="limit-metered-change" pressed=${limits.metered} run=${metered} done="It is set, and stays so after a restart.">Metered<//>`
            : null}</div>
      </li>
    </ul>
  </section>`;
}

function Spent({ label, spent }) {
  const limit = spent.limit;
  return html`<div><p><b>${label}</b> <span class="figures">${bytes(spent.bytes)}${known(limit) ? ` of ${bytes(limit)}` : ""}</span></p>
    ${known(limit) ? html`<meter min="0" max=${limit} value=${Math.min(spent.bytes, limit)} high=${limit * 0.9} aria-label="${label}: ${bytes(spent.bytes)} of ${bytes(limit)}"></meter>` : html`<p class="quiet">no limit</p>`}</div>`;
}

// Why classes are held, each reason once.
const reasons = (classes) => [...new Set(classes.filter((one) => one.held).map((one) => one.held + (one.held_until ? `, until ${moment(one.held_until)}` : "")))];

function Spending({ limits }) {
  return html`<section aria-labelledby="spent-title" data-testid="spent">
    <h2 id="spent-title">What it has used</h2>
    <div class="card">
      <div class="thirds">
        <${Spent} label="Today" spent=${limits.day} />
        <${Spent} label="This month" spent=${limits.month} />
        <div><p><b>Now</b> <span class="figures">${bytes(limits.bytes_per_second)}/s</span></p><p class="quiet">${known(limits.cap) ? `of ${bytes(limits.cap)}/s` : "no limit"}</p></div>
      </div>
      <table class="spent" aria-labelledby="spent-title">
        <thead><tr><th scope="col">What</th><th scope="col">Today</th><th scope="col">This month</th></tr></thead>
        <tbody>${limits.classes.map((one) => html`<tr key=${one.class} data-testid="class-${one.class}">
          <td>${CLASSES[one.class] ?? one.class}${one.held ? html` <${Chip} state="waiting" label="Held" />` : null}</td>
          <td class="figures whole">${bytes(one.day_bytes)}</td><td class="figures whole">${bytes(one.month_bytes)}</td></tr>`)}</tbody>
      </table>
      ${reasons(limits.classes).map((why) => html`<p key=${why} class="note" data-testid="held">Held: ${why}.</p>`)}
      <p class="quiet">What goes first stands first. Bytes are what TCP carried, both ways; its packets' headers come on top.</p>
    </div>
  </section>`;
}

const SPANS = [["hour", "Hour"], ["day", "Day"], ["month", "Month"]];
const ALL = "";

// Adds lists up, place by place; what no list knows is not known.
const add = (lists, count) => Array.from({ length: count }, (_, place) => lists.reduce((sum, list) => (known(list[place]) ? (sum ?? 0) + list[place] : sum), null));
const most = (lists, count) => Array.from({ length: count }, (_, place) => lists.reduce((top, list) => (known(list[place]) ? Math.max(top ?? 0, list[place]) : top), null));

function Past({ reading, period, onPeriod }) {
  const { data } = reading;
  const [route, setRoute] = useState(ALL);
  const [kind, setKind] = useState(ALL);
  const chosen = (data?.routes ?? []).filter((one) => route === ALL || one.name === route);
  const classes = (data?.classes ?? []).filter((one) => kind === ALL || one.class === kind);
  const size = data?.at.length ?? 0;
  const shared = { span: data?.span, at: data?.at ?? [], reached: data?.reached };
  return html`<section aria-labelledby="past-title" data-testid="past">
    <div class="row spread"><h2 id="past-title">How it was</h2>
      <div class="row" role="group" aria-label="How far back">${SPANS.map(([id, label]) => html`<button key=${id} type="button" class="small" data-testid="span-${id}" aria-pressed=${period === id} onClick=${() => onPeriod(id)}>${label}</button>`)}</div></div>
    ${data && size
      ? html`<p class="quiet"><span class="swatch out" aria-hidden="true"></span> headquarters did not answer. Blank: the link did not run, or did not know. A point is written each minute.</p>
        <div class="charts">
          <${Chart} ...${shared} testid="chart-lag" title="Records that wait" values=${add(chosen.map((one) => one.lag_records), size)} say=${count}>
            <label class="inline"><span class="hidden">Route</span><select value=${route} data-testid="chart-route" onChange=${(event) => setRoute(event.target.value)}>
              <option value=${ALL}>all routes</option>${data.routes.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</select></label>
          <//>
          <${Chart} ...${shared} testid="chart-bytes-waiting" title="Bytes that wait, estimated" values=${add(chosen.map((one) => one.lag_bytes), size)} say=${bytes} />
          <${Chart} ...${shared} testid="chart-age" title="Age of the oldest that waits" values=${most(chosen.map((one) => one.lag_seconds), size)} say=${span} />
          <${Chart} ...${shared} testid="chart-catch-up" title="Time to catch up" values=${most(chosen.map((one) => one.catch_up_seconds), size)} say=${span} />
          <${Chart} ...${shared} testid="chart-crossed" title="Bytes that crossed" bars=${true} values=${add(classes.map((one) => one.bytes), size)} say=${bytes}>
            <label class="inline"><span class="hidden">Class</span><select value=${kind} data-testid="chart-class" onChange=${(event) => setKind(event.target.value)}>
              <option value=${ALL}>all classes</option>${data.classes.map((one) => html`<option key=${one.class} value=${one.class}>${CLASSES[one.class] ?? one.class}</option>`)}</select></label>
          <//>
          <${Chart} ...${shared} testid="chart-buffer" title="How long this site could wait" least=${true} values=${data.buffer_hours} say=${hours} />
        </div>`
      : data ? null : html`<${Unknown} reading=${reading} />`}
  </section>`;
}

const waiting = (value) => (known(value) ? (value === 0 ? "nothing" : records(value)) : "not known yet");
const carried = (value) => (value ? `${records(value)} since it started` : "nothing since it started");

// What did not come across, and why; where that is nothing, in a word.
function Missing({ counters, gauges, may }) {
  const { lost = 0, refused = 0 } = counters ?? {};
  const { lost_records = 0, lost_ranges = 0, lost_unknown = 0 } = gauges ?? {};
  if (!lost && !lost_ranges && !refused) return html`<div><dt>Lost or refused</dt><dd>nothing</dd></div>`;
  const known = () => post("/api/link", { lost: `${lost_records}/${lost_ranges}` });
  return html`${lost || lost_ranges ? html`<div><dt>Lost</dt><dd class="bad-text" data-testid="lost">${lost ? records(lost) : "an unknown number of records"}, gone before they were carried${" "}
      ${lost_unknown && may ? html`<${Action} kind="small" testid="lost-known" run=${known} done="It stays counted, and is told no more.">I know<//>` : null}</dd></div>` : null}
    ${refused ? html`<div><dt>Refused</dt><dd class="bad-text">${records(refused)}, kept as dead letters</dd></div>` : null}`;
}

// Both clocks agree as far as anybody can tell, or one is off.
function clockSaid({ ahead_ms: ahead, within_ms: within }) {
  if (Math.abs(ahead) <= Math.max(within, 1000)) return `as headquarters', within ${span(Math.max(within, 1000) / 1000)}`;
  return `${span(Math.abs(ahead) / 1000)} ${ahead > 0 ? "ahead of" : "behind"} headquarters'`;
}

const PAUSING = {
  up: "Pausing loses nothing: records wait on both sides until somebody resumes it.",
  down: "Pause it only if it is to stay away when headquarters can be reached again.",
};

// One button at a time: what can be done now, and what that means.
function Command({ link, session }) {
  if (link.state === "not_connected") return session.rights.includes("set_up") ? html`<div class="row"><a class="button" href="#/set-up">Set-up</a></div>` : null;
  if (!session.rights.includes("link")) return html`<p class="quiet">Changing anything here needs the role field or operator.</p>`;
  const paused = link.state === "paused" || link.desired === "paused";
  return html`<div class="row">
      ${paused
        ? html`<${Action} kind="primary" testid="link-resume" run=${() => post("/api/link/resume")} done="The link is told to go on.">Resume<//>`
        : html`<${Action} testid="link-pause" run=${() => post("/api/link/pause")} done="The link is told to pause.">Pause<//>`}
      ${paused && link.state === "paused" ? null : html`<span class="quiet grow">${paused ? "It is told to pause, and does so as soon as it hears of it." : PAUSING[link.state]}</span>`}
    </div>`;
}

export function Link({ session }) {
  const link = useLive("/api/link", "link");
  const [period, setPeriod] = useState("day");
  const past = useLive(`/api/link/history?span=${period}`, "history", () => undefined);
  const instance = working(link.data?.instances)[0];
  const state = link.data?.state;
  const contact = link.data?.last_contact_at;
  const may = session.rights.includes("link");
  return html`<${Head} title="Link"><${Chip} state=${state ?? "unknown"} label=${WORDS[state] ?? "…"} testid="link-state" />${state === "up" ? html`<span class="quiet" data-testid="last-answered">last answered <${Age} at=${contact} /></span>` : null}<//>
    <${Notices} of=${[link, past]} />
    <section class="card wide">
      ${link.data ? html`<p class="lead">${sentence(link.data.why ?? (state === "up" ? "Records cross in both directions" : ""))}</p>` : html`<${Unknown} reading=${link} words="How the link is, is not known." kind="lead" />`}
      ${link.data?.remedy ? html`<p>${sentence(link.data.remedy)}</p>` : null}
      ${ended(instance) ? html`<p class="bad-text">All below is as of <${Age} at=${instance.reported_at} />, when link last said something.</p>` : null}
      ${link.data && instance && state !== "not_connected"
        ? html`<dl class="facts">
            ${state === "up" ? null : html`<div><dt>Headquarters last answered</dt><dd data-testid="last-answered">${contact ? html`<${Age} at=${contact} />` : "never"}</dd></div>`}
            ${link.data.clock ? html`<div><dt>This site's clock</dt><dd data-testid="clock">${clockSaid(link.data.clock)}</dd></div>` : null}
            <div><dt>Waiting at headquarters</dt><dd>${waiting(link.data.lag?.down)}</dd></div>
            <div><dt>Waiting here</dt><dd>${waiting(link.data.lag?.up)}</dd></div>
            <div><dt>Carried to this site</dt><dd>${carried(instance.counters?.carried_down)}</dd></div>
            <div><dt>Carried to headquarters</dt><dd>${carried(instance.counters?.carried_up)}</dd></div>
            <${Missing} counters=${instance.counters} gauges=${instance.gauges} may=${may} />
          </dl>`
        : null}
      ${instance?.last_error ? html`<p class="quiet">Last error (<${Age} at=${instance.last_error_at} />): ${instance.last_error}</p>` : null}
      ${link.data ? html`<${Command} link=${link.data} session=${session} />` : null}
    </section>
    ${link.data && instance && state !== "not_connected"
      ? html`<${Routes} link=${link.data} may=${may} />
        <${Buffer} buffer=${link.data.limits.buffer} />
        <${Spending} limits=${link.data.limits} />
        <${Limits} limits=${link.data.limits} may=${may} />
        <${Past} reading=${past} period=${period} onPeriod=${setPeriod} />`
      : null}`;
}
