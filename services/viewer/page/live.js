// What the site pushes. One EventSource; views listen to the kinds of events they show.
import { get } from "./api.js";

const KINDS = ["hello", "reset", "beat", "assets", "services", "logs", "problems", "sites", "requests", "lanes", "link", "mirror", "volume", "history", "dead_letters", "audit", "users"];
// The site beats every 15 s. A line that is dead without saying so brings nothing for longer than two of them take.
const LOST_MS = 35_000;
const LOOK_MS = 1000;
const AGAIN_MS = 3000;
const listeners = new Map();
let source = null;
let connected = false;
// Whether what was missed came with the connection, or views must read anew.
let resumed = false;
// Why the site does not let this page listen, in its words.
let why = null;
let lastAt = 0;
let lastId = "";
// When the stream last brought anything, or was tried.
let triedAt = 0;
let watching = null;
let skew = 0;

export function on(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(listener);
  return () => listeners.get(kind).delete(listener);
}

function tell(kind, data) {
  for (const listener of listeners.get(kind) ?? []) listener(data);
}

// The site's clock, so that ages are right whatever this machine's clock says.
export const now = () => Date.now() + skew;
export const state = () => ({ connected, resumed, lastAt, why });

export function open() {
  close();
  connect();
  watching = setInterval(() => {
    if (Date.now() - triedAt < LOST_MS) return;
    lost();
    connect();
  }, LOOK_MS);
}

export function close() {
  clearInterval(watching);
  watching = null;
  source?.close();
  source = null;
  connected = false;
  why = null;
  lastId = "";
}

// Listens behind what was heard last.
function connect() {
  source?.close();
  triedAt = Date.now();
  const after = lastId;
  const own = new EventSource(after ? `/api/events?after=${encodeURIComponent(after)}` : "/api/events");
  source = own;
  for (const kind of KINDS) {
    own.addEventListener(kind, (event) => {
      lastAt = triedAt = Date.now();
      lastId = event.lastEventId || lastId;
      let data = null;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      if (["hello", "beat"].includes(kind) && data.now) skew = data.now - Date.now();
      tell(kind, data);
    });
  }
  own.onopen = () => {
    // A browser that connects again by itself says what it heard last, too.
    resumed = lastId !== "";
    connected = true;
    why = null;
    lastAt = triedAt = Date.now();
    tell("connection", state());
  };
  own.onerror = () => {
    triedAt = Date.now();
    lost();
    // A browser gives up when the answer is no stream: the session may have ended, the site starts again, or refuses.
    if (own.readyState === EventSource.CLOSED) setTimeout(() => again(own), AGAIN_MS);
  };
}

function lost() {
  if (!connected) return;
  connected = false;
  tell("connection", state());
}

// Connects once the site is there and lets this page listen; until then it says why not.
async function again(own) {
  let refused = null;
  try {
    await get("/api/site");
    refused = await refusal();
    if (source === own && refused === null) return connect();
  } catch {
    // It is not there yet.
  }
  if (source !== own) return undefined;
  triedAt = Date.now();
  if (refused !== why) {
    why = refused;
    tell("connection", state());
  }
  return setTimeout(() => again(own), AGAIN_MS);
}

async function refusal() {
  const leave = new AbortController();
  const answer = await fetch("/api/events", { signal: leave.signal });
  if (answer.ok) {
    leave.abort();
    return null;
  }
  const problem = await answer.json().catch(() => null);
  return [problem?.detail ?? problem?.title ?? `it answered ${answer.status}`, problem?.hint].filter(Boolean).join("; ");
}
