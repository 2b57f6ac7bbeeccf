// Connecting this site: one file from headquarters, tried step by step before it is kept.
import { html, useEffect, useRef, useState } from "../html.js";
import { follow, post } from "../api.js";
import * as live from "../live.js";
import { Action, Age, Chip, Head, Notice, useLive } from "../ui.js";
import { moment } from "../format.js";

const LARGEST = 32 * 1024;
const TARGETS = { broker: "The core's broker", depot: "The core's depot" };
const STEPS = {
  file: "The enrolment file",
  name: "The name has an address",
  port: "Somebody listens at the port",
  certificate: "Both sides' certificates are good",
  rights: "This site may do what it must",
  topics: "The topics are there",
};
const stepsOf = (target) => Object.keys(STEPS).filter((step) => target === "broker" || step !== "topics");

// What a person should see of a document before it is tried; whether it is one is for the site to say.
function glimpse(text) {
  try {
    const document = JSON.parse(text);
    return { site: document.site, broker: document.core?.broker_url ?? "", depot: document.core?.depot_url ?? "" };
  } catch {
    return { site: null, broker: "", depot: "" };
  }
}

function Steps({ target, steps, busy }) {
  const known = new Map((steps ?? []).filter((one) => one.target === target).map((one) => [one.step, one]));
  return html`<section class="card" aria-labelledby="steps-${target}">
    <h2 id="steps-${target}">${TARGETS[target]}</h2>
    <ol class="steps">
      ${stepsOf(target).map((step) => {
        const one = known.get(step);
        const state = one?.state ?? (busy ? "waiting" : "not tried");
        return html`<li key=${step} data-testid="set-up-step-${step}-${target}" data-state=${state}>
          <div class="row spread"><b>${STEPS[step]}</b><${Chip} state=${state === "running" ? "trying" : state} calm=${state === "waiting"} /></div>
          ${one ? html`<p class=${one.state === "failed" ? "bad-text" : "quiet"}>${one.detail}</p>` : null}
          ${one?.remedy ? html`<p><b>What to do:</b> ${one.remedy}</p>` : null}
        </li>`;
      })}
    </ol>
  </section>`;
}

function Enrol({ onConnected, connected }) {
  const [text, setText] = useState("");
  const [pasted, setPasted] = useState("");
  const [own, setOwn] = useState({ broker: "", depot: "" });
  const [steps, setSteps] = useState(null);
  const [passed, setPassed] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const file = useRef(null);
  const running = useRef(null);
  const seen = glimpse(text);
  // What was tried says nothing of what is entered now.
  const forget = () => {
    running.current?.abort();
    setSteps(null);
    setPassed(false);
    setProblem(null);
  };
  // A file's text is not shown: it holds the key.
  const enter = (entered, typed = false) => {
    const { broker, depot } = glimpse(entered);
    setText(entered);
    setPasted(typed ? entered : "");
    if (typed && file.current) file.current.value = "";
    setOwn({ broker, depot });
    forget();
  };
  const pick = async (event) => {
    const chosen = event.target.files[0];
    if (!chosen) return;
    if (chosen.size > LARGEST) {
      enter("");
      setProblem({ message: `${chosen.name} is too large to be an enrolment.`, hint: "Choose the file that headquarters made for this site." });
      return;
    }
    enter(await chosen.text());
  };
  const address = (name) => (event) => {
    setOwn({ ...own, [name]: event.target.value });
    forget();
  };
  const body = () => ({ enrolment: text, broker_url: own.broker.trim() || null, depot_url: own.depot.trim() || null });
  const test = async () => {
    forget();
    const own = new AbortController();
    running.current = own;
    setBusy(true);
    setSteps([]);
    let ended = false;
    const hear = (one) => {
      if (own.signal.aborted) return;
      ended = "passed" in one;
      if (ended) setPassed(one.passed);
      else setSteps((old) => [...(old ?? []).filter(({ step, target }) => step !== one.step || target !== one.target), one]);
    };
    try {
      await follow("/api/set-up/test", body(), hear, own.signal);
      if (!ended) throw new Error("The test was cut off. Test again.");
    } catch (refused) {
      if (own.signal.aborted) return;
      setSteps(null);
      setProblem(refused);
    } finally {
      if (running.current === own) {
        running.current = null;
        setBusy(false);
      }
    }
  };
  const stop = () => {
    forget();
    setBusy(false);
  };
  // Who leaves the view ends the test.
  useEffect(() => () => running.current?.abort(), []);
  const connect = async () => {
    setProblem(null);
    try {
      const answer = await post("/api/set-up/connect", body());
      setSteps(answer.steps);
      // The key has no business here any longer.
      setText("");
      setPasted("");
      if (file.current) file.current.value = "";
      await onConnected();
    } catch (refused) {
      setProblem(refused);
      return false;
    }
    return true;
  };
  const failed = steps?.find((one) => one.state === "failed");
  const said = busy ? "Trying each step. It takes half a minute at most, and changes nothing." : failed ? `${TARGETS[failed.target]}: ${failed.detail}` : passed ? "Every step passed. Connect keeps the enrolment, and the link starts." : "";
  return html`<section class="card wide" aria-labelledby="enrol-title">
      <h2 id="enrol-title">${connected ? "Connect anew" : "Give this site its enrolment"}</h2>
      <p>Headquarters makes one file for each site: <code>fieldline site add SITE --out SITE.enrolment</code>. It holds this site's key, so treat it as a password.</p>
      <div class="columns">
        <label>Enrolment file<input ref=${file} type="file" accept=".enrolment,.json,application/json" data-testid="set-up-file" onChange=${pick} /></label>
        <label>or its text<textarea rows="3" spellcheck="false" autocomplete="off" data-testid="set-up-text" value=${pasted} onInput=${(event) => enter(event.target.value, true)}></textarea></label>
      </div>
      ${seen.site ? html`<p class="quiet" data-testid="set-up-site">This is the enrolment of <b>${seen.site}</b>.</p>` : null}
      <div class="columns">
        <label>Address of the core's broker, as this site reaches it<input value=${own.broker} placeholder="kafka://host:9093" autocomplete="off" spellcheck="false" data-testid="set-up-broker" onInput=${address("broker")} /></label>
        <label>Address of the core's depot<input value=${own.depot} placeholder="https://host:7443" autocomplete="off" spellcheck="false" data-testid="set-up-depot" onInput=${address("depot")} /></label>
      </div>
      <${Notice} problem=${problem} />
      <div class="row">
        ${busy
          ? html`<button type="button" data-testid="set-up-stop" onClick=${stop}>Stop</button>`
          : html`<button type="button" class=${passed ? "" : "primary"} data-testid="set-up-test" disabled=${!text.trim()} onClick=${test}>Test</button>`}
        <${Action} kind="primary" testid="set-up-connect" disabled=${!passed || busy} run=${connect} done="Kept. The link takes it up within seconds.">Connect<//>
        <span class=${failed && !busy ? "bad-text" : "quiet"} role="status" data-testid="set-up-said">${said || (passed ? "" : "A test changes nothing.")}</span>
      </div>
    </section>
    ${busy || steps ? html`<div class="columns steps-of">${Object.keys(TARGETS).map((target) => html`<${Steps} key=${target} target=${target} steps=${steps} busy=${busy} />`)}</div>` : null}`;
}

export function SetUp({ session }) {
  const setUp = useLive("/api/set-up", null);
  const link = useLive("/api/link", "link");
  const [again, setAgain] = useState(false);
  // A site can be connected without this page: its link says so.
  useEffect(() => {
    setUp.reload();
  }, [link.data?.state]);
  useEffect(() => live.on("reset", setUp.reload), [setUp.reload]);
  const state = setUp.data;
  const may = session.rights.includes("set_up");
  const connected = state?.connected;
  return html`<${Head} title="Set-up">${state ? html`<${Chip} state=${connected ? "connected" : "waiting"} label=${connected ? "Connected" : "Not connected"} testid="set-up-state" />` : null}<//>
    <${Notice} problem=${setUp.problem} onRetry=${setUp.reload} />
    ${state?.problem ? html`<div class="notice warn" role="alert"><strong>${state.problem}</strong></div>` : null}
    ${state && !connected ? html`<p class="lead" data-testid="set-up-needed"><b>${state.site}</b> is not connected to headquarters yet: nothing arrives here, and nothing is sent.</p>` : null}
    ${connected
      ? html`<section class="card wide" aria-label="Connected to">
          <dl class="facts">
            ${state.core
              ? html`<div><dt>Broker of the core</dt><dd>${state.core.address}</dd></div>
                  <div><dt>Depot of the core</dt><dd>${state.core.depot}</dd></div>
                  <div><dt>Enrolment here since</dt><dd><${Age} at=${state.since} /></dd></div>
                  <div><dt>Its certificate is good until</dt><dd>${moment(state.certificate_ends_at)}</dd></div>`
              : html`<div><dt>The core</dt><dd>is named by this site's settings</dd></div>`}
            <div><dt>Link</dt><dd><a href="#/link"><${Chip} state=${link.data?.state ?? "starting"} testid="set-up-link" /></a></dd></div>
          </dl>
          ${may && state.place && !again ? html`<button type="button" data-testid="set-up-again" onClick=${() => setAgain(true)}>Connect anew</button>` : null}
        </section>`
      : null}
    ${state && !state.place ? html`<p class="quiet">This site's settings name no place for an enrolment, so it is connected by its settings: <code>[link.core]</code> and <code>[mirror]</code>, or <code>enrolment = "/path/site.enrolment"</code> in <code>[common]</code>.</p>` : null}
    ${state?.place && (!connected || again)
      ? may
        ? html`<${Enrol} connected=${connected} onConnected=${async () => { setAgain(false); await setUp.reload(); }} />`
        : html`<p class="quiet">Connecting this site needs the role operator.</p>`
      : null}`;
}
