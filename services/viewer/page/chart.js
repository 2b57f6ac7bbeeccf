// A figure over time: drawn, in words, and as a table. What is not known is left blank.
import { html } from "./html.js";
import { moment } from "./format.js";

const WIDTH = 600;
const HEIGHT = 120;
// A table of more rows is read by nobody.
const ROWS = 24;

const known = (value) => value !== null && value !== undefined;
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const tick = (at, span) => (span === "month" ? DATE : CLOCK).format(at);

// The runs of known values, each as the points of a line.
function runs(values, top) {
  const step = WIDTH / Math.max(values.length, 1);
  const found = [];
  let run = null;
  values.forEach((value, place) => {
    if (!known(value)) {
      run = null;
      return;
    }
    if (!run) found.push((run = []));
    run.push([(place + 0.5) * step, HEIGHT - (value / top) * HEIGHT]);
  });
  // One point alone is a short line.
  return found.map((points) => (points.length > 1 ? points : [[points[0][0] - step / 2, points[0][1]], [points[0][0] + step / 2, points[0][1]]]));
}

const path = (points) => points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function Drawing({ values, bars, top, reached }) {
  const step = WIDTH / Math.max(values.length, 1);
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
    ${(reached ?? []).map((up, place) => (up === false ? html`<rect key=${place} class="out" x=${place * step} y="0" width=${step} height=${HEIGHT} />` : null))}
    <path class="grid" d="M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}" />
    ${bars
      ? values.map((value, place) => (value ? html`<rect key=${place} class="bar" x=${place * step} y=${HEIGHT - (value / top) * HEIGHT} width=${step} height=${(value / top) * HEIGHT} />` : null))
      : runs(values, top).map((points, place) => html`<g key=${place}><path class="area" d="${path(points)}L${points[points.length - 1][0].toFixed(1)} ${HEIGHT}L${points[0][0].toFixed(1)} ${HEIGHT}Z" /><path class="line" d=${path(points)} /></g>`)}
  </svg>`;
}

// Fewer rows, each with the value that the drawing would show of them.
function rows(at, values, bars, least) {
  const each = Math.max(1, Math.ceil(values.length / ROWS));
  const all = [];
  for (let from = 0; from < values.length; from += each) {
    const part = values.slice(from, from + each).filter(known);
    const value = part.length === 0 ? null : bars ? part.reduce((sum, one) => sum + one, 0) : (least ? Math.min : Math.max)(...part);
    all.push([at[from], value]);
  }
  return all.filter(([, value]) => value !== null);
}

// `say` tells a value in words; `bars` are sums, `least` says that little is bad.
export function Chart({ title, span, at, values, say, bars = false, least = false, reached, testid, children }) {
  const there = values.filter(known);
  const most = Math.max(...there, 0);
  const top = most || 1;
  const place = (wanted) => at[values.indexOf(wanted)];
  const extreme = there.length ? (least ? Math.min : Math.max)(...there) : null;
  const last = there[there.length - 1];
  const words = there.length === 0
    ? "Nothing is known of this time."
    : bars
      ? `${say(there.reduce((sum, one) => sum + one, 0))} in all.`
      : there.every((one) => one === last)
        ? `${say(last)} all the time.`
        : `${say(last)} at last, ${say(extreme)} at ${least ? "least" : "most"}: ${moment(place(extreme))}.`;
  return html`<figure class="chart" data-testid=${testid}>
    <figcaption class="row spread"><b>${title}</b>${children}</figcaption>
    <p class="quiet" data-testid=${`${testid}-words`}>${words}</p>
    ${there.length
      ? html`<div class="plot">${most ? html`<span class="top" aria-hidden="true">${say(top)}</span>` : null}<${Drawing} values=${values} bars=${bars} top=${top} reached=${reached} /></div>
        <div class="ticks" aria-hidden="true"><span>${tick(at[0], span)}</span><span>${tick(at[Math.floor(at.length / 2)], span)}</span><span>now</span></div>
        <details><summary>As a table</summary><table>
          <thead><tr><th scope="col">From</th><th scope="col">${title}</th></tr></thead>
          <tbody>${rows(at, values, bars, least).map(([from, value]) => html`<tr key=${from}><td>${moment(from)}</td><td>${say(value)}</td></tr>`)}</tbody>
        </table></details>`
      : null}
  </figure>`;
}
