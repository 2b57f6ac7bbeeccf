// Figures and times in words. Pure functions.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

// Made once: making one takes longer than a hundred uses of it.
const COUNT = new Intl.NumberFormat("en");
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function count(number) {
  return number === null || number === undefined ? "–" : COUNT.format(Math.round(number));
}

// A span of seconds, in the one or two units that matter.
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds > 0 && seconds < 1) return "less than 1 s";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.round(s / 60)} min`;
  if (s < 86400) {
    const minutes = Math.round((s % 3600) / 60);
    return minutes ? `${Math.floor(s / 3600)} h ${minutes} min` : `${Math.floor(s / 3600)} h`;
  }
  return `${Math.round(s / 86400)} d`;
}

export function ago(at, now) {
  if (!at) return "never";
  const seconds = (now - at) / 1000;
  if (seconds < 5) return "just now";
  // One unit is enough: the moment itself is in the title.
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} d ago`;
}

// How long something has been so: one unit is enough, as in `ago`.
export function lasting(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

export function day(at) {
  return at ? DAY.format(at) : "";
}

export function moment(at) {
  return at ? MOMENT.format(at) : "";
}

// The time of day, to the millisecond.
export function clock(at) {
  return `${CLOCK.format(at)}.${String(at % 1000).padStart(3, "0")}`;
}

const STATES = {
  announced: "Announced",
  downloaded: "Downloaded",
  broadcast: "Broadcast",
  available: "Available",
  requesting: "Requesting…",
  requested: "Requested",
  ready: "Ready to mirror",
  mirrored: "Here",
  refused: "Refused",
  cancelled: "Cancelled",
  expired: "Expired",
  withdrawn: "Withdrawn",
  failed: "Failed",
};

// In the order in which assets go through them.
export const stateOrder = (one, other) => Object.keys(STATES).indexOf(one) - Object.keys(STATES).indexOf(other);

// What services say has no full stop; nothing stays nothing.
export const sentence = (text) => text && text.replace(/\.?$/, ".");

const SIZE = /\b(\d+)(B|[KMGT]iB)\b/g;

// Why headquarters refused, as people say it: before it stands a code for machines, and sizes are told to the byte.
export function refusal(reason) {
  const [, code, words] = /^([a-z_]+): (.*)$/s.exec(reason ?? "") ?? [null, null, reason];
  if (!words) return reason;
  // Others quote what people wrote.
  const told = code === "too_large" ? words.replace(SIZE, (_, number, unit) => bytes(number * 1024 ** UNITS.indexOf(unit))) : words;
  return told[0].toUpperCase() + told.slice(1);
}

// A number of things, in words.
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

export function stateName(state) {
  return STATES[state] ?? (state ? state[0].toUpperCase() + state.slice(1) : "–");
}

// Which of five colours a state has.
export function tone(state) {
  if (["mirrored", "running", "broadcast", "delivered", "done", "up", "passed", "connected"].includes(state)) return "good";
  if (["requesting", "requested", "ready", "downloaded", "starting", "draining", "trying"].includes(state)) return "busy";
  if (["failed", "silent", "refused", "down"].includes(state)) return "bad";
  if (["waiting", "expired", "withdrawn", "cancelled", "not_connected"].includes(state)) return "warn";
  return "calm";
}
