// What the site pushes. One EventSource; views listen to the kinds of events they show.
import { get } from "./api.js";

const KINDS = ["hello", "reset", "assets", "services", "logs", "problems", "sites", "requests", "lanes", "link", "mirror", "volume", "history", "dead_letters", "audit"];
const listeners = new Map();
let source = null;
let connected = false;
let lastAt = 0;
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
export const state = () => ({ connected, lastAt });

export function open() {
  close();
  source = new EventSource("/api/events");
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      lastAt = Date.now();
      let data = null;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      if (kind === "hello" && data.now) skew = data.now - Date.now();
      tell(kind, data);
    });
  }
  source.onopen = () => {
    connected = true;
    lastAt = Date.now();
    tell("connection", state());
  };
  source.onerror = () => {
    if (connected) {
      connected = false;
      tell("connection", state());
    }
    // A browser gives up when the answer is no stream: the session may have ended, or the site starts again.
    if (source && source.readyState === EventSource.CLOSED) {
      const own = source;
      setTimeout(() => {
        if (source !== own) return;
        get("/api/site").then(open, () => source === own && setTimeout(open, 3000));
      }, 2000);
    }
  };
}

export function close() {
  if (source) source.close();
  source = null;
  connected = false;
}
