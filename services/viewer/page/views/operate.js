// What an operator needs: services, what could not be processed, who did what, who may.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { get, post, query, remove } from "../api.js";
import * as live from "../live.js";
import { Action, Age, Empty, Head, Lasting, Notice, ServiceChip, ask, detailOf, ended, useLive, useTurns } from "../ui.js";
import { bytes, clock, count, day, many, moment } from "../format.js";

const LOUD = new Set(["error", "warn"]);

const words = (fields) => Object.entries(fields).map(([name, value]) => `${name}=${value}`).join(" ");
const asText = (lines) => lines.map((one) => [new Date(one.at).toISOString(), one.level.toUpperCase(), one.target, one.message, words(one.fields)].filter(Boolean).join(" ")).join("\n");

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers keep the clipboard from pages that did not come by https or from this machine.
    const box = document.createElement("textarea");
    box.value = text;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    if (!done) throw new Error("This browser does not let the page copy.");
  }
}

// The last lines of a service, of all its instances in the order of their times; the newest stays in sight.
function Log({ service }) {
  const { data, problem, reload } = useLive(`/api/services/${service}/logs`, "logs", (old, pushed) => (pushed.service === service ? undefined : old));
  const [loud, setLoud] = useState(false);
  const box = useRef(null);
  const atEnd = useRef(true);
  const instances = data?.instances ?? [];
  const all = instances.flatMap((one) => one.lines.map((line) => ({ ...line, instance: one.instance }))).sort((a, b) => a.at - b.at);
  const lines = loud ? all.filter((one) => LOUD.has(one.level)) : all;
  useLayoutEffect(() => {
    if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [data, loud]);
  const asOf = Math.max(0, ...instances.map((one) => one.as_of));
  return html`<section class="log" aria-label="Log of ${service}" data-testid="log-${service}">
    <${Notice} problem=${problem} onRetry=${reload} />
    <div class="row spread">
      <span class="quiet">${data ? (all.length ? html`${count(lines.length)} ${lines.length === 1 ? "line" : "lines"}, the newest last · as of <${Age} at=${asOf} />` : "It has passed on no lines yet.") : "Loading…"}</span>
      <div class="row">
        <label class="check"><input type="checkbox" checked=${loud} onChange=${(event) => setLoud(event.target.checked)} /> Warnings and errors only</label>
        <${Action} kind="small" testid="log-${service}-copy" disabled=${!lines.length} run=${() => copy(asText(lines))} done="Copied.">Copy<//>
      </div>
    </div>
    ${all.length
      ? html`<div class="lines" ref=${box} tabindex="0" role="region" aria-label="Lines of ${service}" onScroll=${({ target }) => { atEnd.current = target.scrollTop + target.clientHeight >= target.scrollHeight - 8; }}><ol>
          ${lines.map((one, at) => html`<li key=${`${one.instance}/${one.at}/${at}`} class=${one.level}>
            <time datetime=${new Date(one.at).toISOString()} title=${moment(one.at)}>${clock(one.at)}</time> <b class="level">${one.level}</b> <span>${one.message} <span class="quiet">${words(one.fields)}${instances.length > 1 ? ` instance=${one.instance}` : ""}</span></span>
          </li>`)}
        </ol></div>`
      : null}
    ${data && all.length > 0 && lines.length === 0 ? html`<p class="quiet">No warning and no error among the last lines.</p>` : null}
  </section>`;
}

// What there is to say of an instance in a line: how long it is up, or since when it is not.
function Life({ one }) {
  const facts = [
    ended(one) ? html`last word <${Age} at=${one.reported_at} />` : html`up for <${Lasting} since=${one.started_at} />`,
    one.rate ? `${one.rate.toFixed(1)} records/s` : null,
    one.lag ? `lag ${count(one.lag)}` : null,
    one.dead_letters ? html`<a href="#/dead-letters">${count(one.dead_letters)} dead letters</a>` : null,
    one.log_level ? `logs ${one.log_level}` : null,
    `instance ${one.instance}`,
    one.version,
  ];
  return html`<div class="quiet">${facts.filter(Boolean).map((fact, at) => html`${at ? " · " : ""}${fact}`)}</div>`;
}

// Gauges whose names say their unit are told in it.
function figure([name, value]) {
  const plain = name.replaceAll("_", " ");
  if (name.endsWith("bytes_per_second")) return `${plain.replace(" per second", "")} ${bytes(value)}/s`;
  return name.includes("bytes") ? `${plain} ${bytes(value)}` : `${plain} ${count(value)}`;
}

// What to do about an instance whose process is gone: what is told here, nobody would hear.
function Ended({ one, replaced }) {
  if (!ended(one)) return null;
  const gone = one.state === "silent" ? "Its process has ended, or cannot reach this site." : "Its process has ended.";
  const remedy = replaced
    ? `Another instance of ${one.service} works in its place.`
    : `${one.state === "failed" ? "Mend the cause, then start" : "Start"} it on its machine; no button here can.`;
  return html`<p class=${replaced ? "quiet" : ""} data-testid="service-${one.service}-ended">${gone} ${remedy}</p>`;
}

// What an instance that works can be told. The viewer itself never pauses: nobody could tell it to go on.
function Commands({ one }) {
  const told = one.desired === "paused" || one.state === "paused";
  const tell = (what) => () => post(`/api/services/${one.service}/${what}`);
  const debug = () => post(`/api/services/${one.service}/log-level`, { level: one.log_level === "debug" ? null : "debug" });
  return html`${one.service === "viewer"
      ? null
      : told
        ? html`<${Action} kind="primary" testid="service-${one.service}-start" run=${tell("start")} done="${one.service} is told to start.">Start<//>`
        : html`<${Action} testid="service-${one.service}-stop" run=${tell("stop")} done="${one.service} is told to finish what it holds, then to pause.">Stop<//>`}
    <${Action} testid="service-${one.service}-debug" run=${debug} done=${one.log_level === "debug" ? "It logs as its settings say." : "It logs every step."} pressed=${one.log_level === "debug"} title="Log every step, until pressed again">Debug<//>`;
}

function ServiceCard({ one, may, replaced, open, onOpen }) {
  // Figures of the link's classes and routes have their place in its own view.
  const told = ([name, value]) => value && !name.endsWith("_at") && !name.includes(".") && (one.state === "running" || !name.endsWith("_per_second"));
  const figures = [...Object.entries(one.counters), ...Object.entries(one.gauges).filter(told)];
  return html`<li class="card wide" data-testid="service-${one.service}">
    <div class="row spread">
      <div><b>${one.service}</b> <${ServiceChip} one=${one} />
        ${one.desired === "paused" && one.state !== "paused" ? html`<span class="quiet"> told to pause</span>` : null}
        <${Life} one=${one} /></div>
      <div class="row">
        ${may && !ended(one) ? html`<${Commands} one=${one} />` : null}
        <button type="button" data-testid="service-${one.service}-logs" aria-expanded=${open} onClick=${onOpen}>Log</button>
      </div>
    </div>
    <${Ended} one=${one} replaced=${replaced} />
    ${one.detail ? html`<p>${detailOf(one)}</p>` : null}
    ${one.last_error ? html`<p class="bad-text">Last error, <${Age} at=${one.last_error_at} />: ${one.last_error}</p>` : null}
    ${figures.length ? html`<p class="quiet figures">${figures.map(figure).join(" · ")}</p>` : null}
    ${open ? html`<${Log} service=${one.service} />` : null}
  </li>`;
}

export function Services({ session, rest }) {
  const { data, problem, reload } = useLive("/api/services", "services");
  const may = session.rights.includes("services");
  const [open, setOpen] = useState(rest[0] ?? null);
  const services = data?.services ?? [];
  const id = (one) => `${one.service}/${one.instance}`;
  const works = new Set(services.filter((one) => !ended(one)).map((one) => one.service));
  // A link names a service; its first instance is meant.
  const first = services.find((one) => one.service === open);
  const shown = first ? id(first) : open;
  return html`<${Head} title="Services" />
    <${Notice} problem=${problem} onRetry=${reload} />
    <ul class="rows">${services.map((one) => html`<${ServiceCard} key=${id(one)} one=${one} may=${may} replaced=${works.has(one.service)} open=${shown === id(one)} onOpen=${() => setOpen(shown === id(one) ? null : id(one))} />`)}</ul>`;
}

// Who sent which dead letter again, as the audit has it: the newest time of each.
async function redriven() {
  const { entries } = await get(`/api/audit${query({ action: "dead_letter.redrive", limit: 500 })}`);
  return new Map(entries.filter((one) => one.outcome === "done").reverse().map((one) => [one.target, one]));
}

export function DeadLetters({ session }) {
  const { data, problem, reload } = useLive("/api/dead-letters?limit=200", "dead_letters", () => undefined);
  // Without it the list is the same but for this word.
  const again = useLive(session.rights.includes("audit") ? redriven : null, null);
  const letters = data?.dead_letters ?? [];
  const may = session.rights.includes("dead_letters");
  useEffect(() => {
    if (data) again.reload();
  }, [data]);
  const redrive = (one) => async () => {
    await post(`/api/dead-letters/${encodeURIComponent(one.topic)}/${one.partition}/${one.offset}/redrive`);
    await reload();
  };
  const shown = letters.map((one) => ({ ...one, id: `${one.topic}/${one.partition}/${one.offset}` }));
  return html`<${Head} title="Dead letters"><span class="quiet" data-testid="letters-known">${!data ? "" : data.more ? `the newest ${count(letters.length)}` : many(letters.length, "dead letter")}</span><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && letters.length === 0 ? html`<${Empty} title="No dead letters.">Records that a service cannot process are kept here with the reason, and hold up nothing.<//>` : null}
    <ul class="rows">${shown.map((one) => html`<li key=${one.id} class="card wide" data-testid="dead-letter">
      <div class="row spread"><div><b>${one.error}</b><div class="quiet">${one.service ?? "?"} · ${one.origin ? `${one.origin.topic} ${one.origin.partition}:${one.origin.offset}` : one.topic} · <${Age} at=${one.timestamp} /></div>
        ${one.redriven_at ? html`<div class="quiet" data-testid="redriven">Sent again <${Age} at=${one.redriven_at} />${again.data?.has(one.id) ? ` by ${again.data.get(one.id).user}` : ""}. If it fails again, that is a dead letter of its own.</div>` : null}</div>
      ${may && one.redrivable ? html`<${Action} testid="redrive" run=${redrive(one)} done="It is on its way again.">${one.redriven_at ? "Redrive again" : "Redrive"}<//>` : null}</div></li>`)}</ul>`;
}

// What people ask for, as the audit calls it and in words.
const DEEDS = {
  "session.sign_in": "Sign in", "session.sign_out": "Sign out", "session.password": "Change one's password",
  "user.add": "Add a user", "user.set": "Change a user", "user.remove": "Remove a user", "ticket.make": "Make a one-time link",
  "asset.request": "Request", "asset.cancel": "Cancel a request", "asset.order": "Move in the queue", "asset.pin": "Pin", "asset.unpin": "Unpin", "asset.evict": "Evict", "asset.withdraw": "Withdraw", "asset.expiry": "Set the expiry",
  "mirror.start": "Start the mirror", "mirror.stop": "Stop the mirror", "link.set": "Set the link's limits", "link.pause": "Pause the link", "link.resume": "Resume the link",
  "service.start": "Start a service", "service.stop": "Stop a service", "service.log_level": "Set what a service logs", "dead_letter.redrive": "Redrive a dead letter",
  "set_up.test": "Test an enrolment", "set_up.connect": "Connect this site", "site.enrol": "Enrol an edge", "site.revoke": "Revoke an edge", "topic.create": "Make a topic", "topic.delete": "Delete a topic",
};

// What was set on the link is told as it was sent, which is for machines; the rest is in words already.
function inWords(one) {
  if (one.action !== "link.set") return one.detail;
  return one.detail.replace(/"([^"]*)":/g, "$1 ").replaceAll("null", "none").replace(/,(?=\S)/g, ", ").replace(/["{}[\]]/g, "");
}

const isAsset = (one) => one.action.startsWith("asset.") && one.target;

function Target({ one }) {
  if (!isAsset(one)) return one.target;
  return html`<a href="#/assets/${one.target}">${one.title || one.target}</a>`;
}

const entryId = (one) => `${one.at}/${one.id}`;

// The end of a day, where the reader is.
function endOf(day) {
  const end = new Date(`${day}T00:00`);
  end.setDate(end.getDate() + 1);
  return end.getTime();
}

export function Audit() {
  const [filter, setFilter] = useState({ q: "", user: "", until: "" });
  const [found, setFound] = useState(null);
  const entries = found ?? [];
  const [next, setNext] = useState(null);
  const [problem, setProblem] = useState(null);
  const { q, user, until } = filter;
  const wanted = { q, user, before: until && endOf(until), limit: 100 };
  const turns = useTurns();
  // Of looking for what is new to the list.
  const looks = useTurns();
  const shown = useRef([]);
  const show = (entries) => {
    shown.current = entries;
    setFound(entries);
  };
  const read = async (before) => {
    const still = before ? turns.now() : turns.begin();
    try {
      const page = await get(`/api/audit${query(before ? { ...wanted, before } : wanted)}`);
      if (!still()) return;
      show(before ? [...shown.current, ...page.entries] : page.entries);
      setNext(page.next);
      setProblem(null);
    } catch (error) {
      if (still()) setProblem(error);
    }
  };
  // What is new comes before what is shown; what is shown may have an outcome now.
  const refresh = async () => {
    const [still, newest] = [turns.now(), looks.begin()];
    const page = await get(`/api/audit${query(wanted)}`);
    if (!still() || !newest()) return;
    const fresh = new Set(page.entries.map(entryId));
    const older = shown.current.filter((one) => !fresh.has(entryId(one)));
    const joins = older.length < shown.current.length;
    show(joins ? [...page.entries, ...older] : page.entries);
    if (!joins) setNext(page.next);
  };
  useEffect(() => {
    // What was asked for before is no answer to this.
    turns.begin();
    const timer = setTimeout(() => read(null), 200);
    // What cannot be read now is read with the next change.
    const again = () => refresh().catch(() => {});
    const offs = [live.on("audit", again), live.on("reset", again), live.on("connection", ({ connected }) => connected && again())];
    return () => {
      clearTimeout(timer);
      offs.forEach((off) => off());
    };
  }, [q, user, until]);
  const choose = ({ target }) => target.validity.valid && setFilter({ ...filter, until: target.value });
  return html`<${Head} title="Audit" />
    <div class="toolbar">
      <input type="search" aria-label="Search the audit" placeholder="Search: a name, link.pause" value=${q} onInput=${(event) => setFilter({ ...filter, q: event.target.value })} />
      <input aria-label="Only this user" placeholder="User" value=${user} onInput=${(event) => setFilter({ ...filter, user: event.target.value })} />
      <input type="date" aria-label="Only until this day" title="Only until this day" max="9999-12-30" data-testid="audit-until" value=${until} onInput=${choose} />
    </div>
    <${Notice} problem=${problem} onRetry=${() => read(null)} />
    ${entries.length || !found ? null : html`<p class="quiet">${next ? "Nothing in the last 31 days before this; earlier may have more." : "Nothing matches."}</p>`}
    ${entries.length ? html`<div class="scroll cards" tabindex="0" role="region" aria-label="Audit"><table>
      <thead><tr><th>When</th><th>Who</th><th>From</th><th>What</th><th>Of</th><th>Outcome</th></tr></thead>
      <tbody>${entries.map((one) => html`<tr key=${entryId(one)} data-testid="audit-row"><td data-label="When"><${Age} at=${one.at} /></td><td data-label="Who"><span>${one.user ?? "somebody unknown"}${one.role ? html` <span class="quiet">${one.role}</span>` : null}</span></td><td data-label="From">${one.from}</td>
        <td data-label="What"><span>${DEEDS[one.action] ?? one.action} <span class="quiet whole">${one.action}</span></span></td><td data-label="Of" class="clip">${one.target ? html`<${Target} one=${one} />` : null}</td>
        <td data-label="Outcome"><span>${one.outcome}${one.detail ? html` <span class="quiet">${inWords(one)}</span>` : null}</span></td></tr>`)}</tbody>
    </table></div>` : null}
    ${next ? html`<button type="button" data-testid="earlier-entries" onClick=${() => read(next)}>Earlier</button>` : null}`;
}

const PASSWORD = { name: "password", label: "Password (10 characters or more)", type: "password", required: true, minlength: 10, autocomplete: "new-password" };
const ROLES = ["viewer", "field", "analyst", "operator"];

export function Users({ session }) {
  const { data, problem, reload } = useLive("/api/users", "users", () => undefined);
  const add = async () => {
    const fields = [{ name: "name", label: "Name, in lower-case letters", required: true }, { name: "role", label: "Role", options: ROLES }, PASSWORD];
    const said = await ask({ title: "Add a user", confirm: "Add", fields, run: (user) => post("/api/users", user) });
    return said ? reload() : false;
  };
  const appoint = (user) => async () => {
    const text = "Whoever is signed in under this name is signed out, and has the new role from their next sign-in on.";
    const path = `/api/users/${encodeURIComponent(user.name)}`;
    const fields = [{ name: "role", label: "Role", options: ROLES, value: user.role }];
    const said = await ask({ title: `The role of ${user.name}`, text, confirm: "Set", fields, run: ({ role }) => (role === user.role ? null : post(path, { role })) });
    if (!said || said.role === user.role) return false;
    await reload();
    return said;
  };
  const renew = (user) => async () => {
    const text = "Whoever is signed in under this name is signed out. Tell them to change it once they have signed in.";
    const path = `/api/users/${encodeURIComponent(user.name)}`;
    const said = await ask({ title: `A new password for ${user.name}`, text, confirm: "Set", fields: [PASSWORD], run: ({ password }) => post(path, { password }) });
    return said ? reload() : false;
  };
  const drop = (user) => async () => {
    const said = await ask({ title: `Remove ${user.name}?`, text: "Whoever is signed in under this name is signed out.", confirm: "Remove", kind: "danger" });
    if (!said) return false;
    await remove(`/api/users/${encodeURIComponent(user.name)}`);
    return reload();
  };
  const change = (user, body) => async () => {
    await post(`/api/users/${encodeURIComponent(user.name)}`, body);
    await reload();
  };
  return html`<${Head} title="Users"><${Action} kind="primary" testid="add-user" run=${add} done="Added.">Add a user<//><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && (data.users ?? []).length === 0 ? html`<${Empty} title="No users yet.">You are here by a one-time link. Add a user for everybody who works with this site.<//>` : null}
    <ul class="rows">${(data?.users ?? []).map((user) => html`<li key=${user.name} class="card wide" data-testid="user-${user.name}"><div class="row spread">
      <div><b>${user.name}</b> <span class="quiet">${user.role}${user.disabled_at ? " · disabled" : ""} · since <time title=${moment(user.created_at)}>${day(user.created_at)}</time></span></div>
      <div class="row">
        <${Action} testid="role-${user.name}" title="Change the role of ${user.name}" run=${appoint(user)} done=${(said) => `${user.name} is ${said.role} now.`} disabled=${user.name === session.user}>Role<//>
        <${Action} testid="password-${user.name}" run=${renew(user)} done="Set." disabled=${user.name === session.user}>New password<//>
        <${Action} testid="disable-${user.name}" run=${change(user, { disabled: !user.disabled_at })} done="Changed." disabled=${user.name === session.user}>${user.disabled_at ? "Enable" : "Disable"}<//>
        <${Action} kind="danger" testid="remove-${user.name}" run=${drop(user)} done="Removed." disabled=${user.name === session.user}>Remove<//>
      </div></div></li>`)}</ul>`;
}
