// What an operator needs: services, what could not be processed, who did what, who may.
import { html, useEffect, useState } from "../html.js";
import { get, post, query, remove } from "../api.js";
import { Action, Age, Chip, Empty, Head, Notice, ask, useLive } from "../ui.js";
import { count, moment } from "../format.js";

export function Services({ session }) {
  const { data, problem, reload } = useLive("/api/services", "services");
  const may = session.rights.includes("services");
  const services = data?.services ?? [];
  const debug = (one) => async () => {
    const level = one.log_level === "debug" ? null : "debug";
    await post(`/api/services/${one.service}/log-level`, { level });
  };
  return html`<${Head} title="Services" />
    <${Notice} problem=${problem} onRetry=${reload} />
    <ul class="rows">
      ${services.map((one) => html`<li key=${`${one.service}/${one.instance}`} class="card wide" data-testid="service-${one.service}">
        <div class="row spread">
          <div><b>${one.service}</b> <${Chip} state=${one.state} testid="service-${one.service}-state" />
            ${one.desired === "paused" && one.state !== "paused" ? html`<span class="quiet"> told to pause</span>` : null}
            <div class="quiet">instance ${one.instance} · up since <${Age} at=${one.started_at} />${one.rate ? ` · ${one.rate.toFixed(1)} records/s` : ""}${one.lag ? ` · lag ${count(one.lag)}` : ""}${one.dead_letters ? ` · ${count(one.dead_letters)} dead letters` : ""}${one.log_level ? ` · logs ${one.log_level}` : ""} · last word <${Age} at=${one.reported_at} /> · ${one.version}</div></div>
          ${may && one.service !== "viewer"
            ? html`<div class="row">
                ${one.desired === "paused" || one.state === "paused"
                  ? html`<${Action} kind="primary" testid="service-${one.service}-start" run=${() => post(`/api/services/${one.service}/start`)} done="${one.service} starts.">Start<//>`
                  : html`<${Action} testid="service-${one.service}-stop" run=${() => post(`/api/services/${one.service}/stop`)} done="${one.service} finishes what it holds, then pauses.">Stop<//>`}
                <${Action} testid="service-${one.service}-debug" run=${debug(one)} done="The log level changes.">Debug<//>
              </div>`
            : null}
        </div>
        ${one.detail ? html`<p>${one.detail}</p>` : null}
        ${one.last_error ? html`<p class="bad-text">Last error, <${Age} at=${one.last_error_at} />: ${one.last_error}</p>` : null}
        <p class="quiet figures">${[...Object.entries(one.counters), ...Object.entries(one.gauges).filter(([name]) => !name.endsWith("_at"))].map(([name, value]) => `${name.replaceAll("_", " ")} ${count(value)}`).join(" · ")}</p>
      </li>`)}
    </ul>`;
}

export function DeadLetters({ session }) {
  const { data, problem, reload } = useLive("/api/dead-letters?limit=200", null);
  const letters = data?.dead_letters ?? [];
  const may = session.rights.includes("dead_letters");
  const redrive = (one) => async () => {
    await post(`/api/dead-letters/${encodeURIComponent(one.topic)}/${one.partition}/${one.offset}/redrive`);
    await reload();
  };
  return html`<${Head} title="Dead letters"><button type="button" onClick=${reload}>Read again</button><//>
    <${Notice} problem=${problem} onRetry=${reload} />
    ${data && letters.length === 0 ? html`<${Empty} title="No dead letters.">Records that a service cannot process are kept here with the reason, and hold up nothing.<//>` : null}
    <ul class="rows">${letters.map((one) => html`<li key=${`${one.topic}/${one.partition}/${one.offset}`} class="card wide" data-testid="dead-letter">
      <div class="row spread"><div><b>${one.error}</b><div class="quiet">${one.service ?? "?"} · ${one.origin ? `${one.origin.topic} ${one.origin.partition}:${one.origin.offset}` : one.topic} · <${Age} at=${one.timestamp} /></div></div>
      ${may && one.redrivable ? html`<${Action} testid="redrive" run=${redrive(one)} done="It is on its way again.">Redrive<//>` : null}</div></li>`)}</ul>`;
}

export function Audit() {
  const [filter, setFilter] = useState({ q: "", user: "" });
  const [entries, setEntries] = useState([]);
  const [next, setNext] = useState(null);
  const [problem, setProblem] = useState(null);
  const read = async (before) => {
    try {
      const page = await get(`/api/audit${query({ ...filter, before, limit: 100 })}`);
      setEntries((old) => (before ? [...old, ...page.entries] : page.entries));
      setNext(page.next);
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
  };
  useEffect(() => {
    const timer = setTimeout(() => read(null), 200);
    return () => clearTimeout(timer);
  }, [filter.q, filter.user]);
  return html`<${Head} title="Audit"><button type="button" onClick=${() => read(null)}>Read again</button><//>
    <div class="toolbar">
      <input type="search" aria-label="Search the audit" placeholder="Search" value=${filter.q} onInput=${(event) => setFilter({ ...filter, q: event.target.value })} />
      <input aria-label="Only this user" placeholder="User" value=${filter.user} onInput=${(event) => setFilter({ ...filter, user: event.target.value })} />
    </div>
    <${Notice} problem=${problem} onRetry=${() => read(null)} />
    <div class="scroll" tabindex="0" role="region" aria-label="Audit"><table>
      <thead><tr><th>When</th><th>Who</th><th>From</th><th>What</th><th>Of</th><th>Outcome</th></tr></thead>
      <tbody>${entries.map((one) => html`<tr key=${`${one.at}/${one.id}`} data-testid="audit-row"><td title=${moment(one.at)}><${Age} at=${one.at} /></td><td>${one.user}${one.role ? html` <span class="quiet">${one.role}</span>` : null}</td><td>${one.from}</td><td>${one.action}</td><td class="clip">${one.target}</td><td>${one.outcome}${one.detail ? html` <span class="quiet">${one.detail}</span>` : null}</td></tr>`)}</tbody>
    </table></div>
    ${next ? html`<button type="button" onClick=${() => read(next)}>Earlier</button>` : null}`;
}

const ROLES = ["viewer", "field", "analyst", "operator"];

export function Users({ session }) {
  const { data, problem, reload } = useLive("/api/users", null);
  const add = async () => {
    const said = await ask({ title: "Add a user", confirm: "Add", fields: [{ name: "name", label: "Name", required: true }, { name: "role", label: "Role", options: ROLES }, { name: "password", label: "Password (10 characters or more)", type: "password", required: true, minlength: 10 }] });
    if (!said) return false;
    await post("/api/users", said);
    return reload();
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
      <div><b>${user.name}</b> <span class="quiet">${user.role}${user.disabled_at ? " · disabled" : ""} · since ${moment(user.created_at)}</span></div>
      <div class="row">
        <${Action} run=${change(user, { disabled: !user.disabled_at })} done="Changed." disabled=${user.name === session.user}>${user.disabled_at ? "Enable" : "Disable"}<//>
        <${Action} kind="danger" run=${drop(user)} done="Removed." disabled=${user.name === session.user}>Remove<//>
      </div></div></li>`)}</ul>`;
}
