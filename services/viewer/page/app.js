// The shell: who is here, where one is, and whether what is shown is fresh.
import { html, render, useEffect, useState } from "./html.js";
import { get, post, remove, onSignedOut } from "./api.js";
import * as live from "./live.js";
import { Age, Dialogs, Toasts, ask, toast, useLive } from "./ui.js";
import { moment } from "./format.js";
import { SignIn } from "./views/sign-in.js";
import { Home } from "./views/home.js";
import { Assets } from "./views/assets.js";
import { Asset } from "./views/asset.js";
import { Delivered, Mirror } from "./views/edge.js";
import { Link } from "./views/link.js";
import { Edges, Lanes, Requests } from "./views/core.js";
import { SetUp } from "./views/set-up.js";
import { Audit, DeadLetters, Services, Users } from "./views/operate.js";

const BOTH = [
  ["services", "Services", Services],
  ["dead-letters", "Dead letters", DeadLetters],
  ["audit", "Audit", Audit, "audit"],
  ["users", "Users", Users, "users"],
];
const VIEWS = {
  edge: [["home", "Overview", Home], ["assets", "Assets", Assets], ["delivered", "Delivered", Delivered], ["mirror", "Mirror", Mirror], ["link", "Link", Link], ["set-up", "Set-up", SetUp], ...BOTH],
  core: [["home", "Overview", Home], ["lanes", "Lanes", Lanes], ["assets", "Assets", Assets], ["requests", "Requests", Requests], ["edges", "Edges", Edges], ...BOTH],
};
const THEMES = { auto: "dark", dark: "light", light: "auto" };

function routeOf(hash) {
  try {
    return hash.replace(/^#\/?/, "").split("?")[0].split("/").map(decodeURIComponent);
  } catch {
    // What nobody can decode names no view.
    return [""];
  }
}

function useRoute() {
  const [route, setRoute] = useState(() => routeOf(location.hash));
  useEffect(() => {
    const change = () => {
      setRoute(routeOf(location.hash));
      // The new view is what a reader hears next.
      requestAnimationFrame(() => document.getElementById("title")?.focus({ preventScroll: true }));
    };
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return route;
}

const STALE = { down: "The link to headquarters is down.", paused: "The link to headquarters is paused.", not_connected: "This site is not connected to headquarters yet." };

// At an edge every view says how old is what headquarters told, for as long as the link carries nothing. Why that is so, the
// overview says itself.
function Staleness({ here }) {
  const { data: link } = useLive("/api/link", "link");
  // Two views say it themselves: Link how it is, Set-up that the site is not connected.
  if (!link || !STALE[link.state] || here === "link" || (link.state === "not_connected" && here === "set-up")) return null;
  const at = link.last_contact_at;
  if (here === "home" && !at) return null;
  return html`<div class="banner warn" role="status" data-testid="as-of"><span>${here === "home" ? null : html`<b>${STALE[link.state]}</b> `}${at ? html`What this site knows of headquarters is as of ${moment(at)} (<${Age} at=${at} />).` : "Headquarters has never answered."} ${here === "home" ? null : html`<a href=${link.state === "not_connected" ? "#/set-up" : "#/link"}>${link.state === "not_connected" ? "Set it up" : "Why, and what to do"}</a>`}</span></div>`;
}

function Connection({ edge, here }) {
  const [state, setState] = useState(live.state());
  const [shown, setShown] = useState(false);
  useEffect(() => live.on("connection", setState), []);
  // A moment without a connection is nothing to be told of.
  useEffect(() => {
    if (state.connected) return setShown(false);
    const timer = setTimeout(() => setShown(true), 4000);
    return () => clearTimeout(timer);
  }, [state.connected]);
  if (!shown) return edge ? html`<${Staleness} here=${here} />` : null;
  const since = state.lastAt ? new Date(state.lastAt).toLocaleTimeString() : "the page was opened";
  const what = state.why ? `This page hears nothing of its site: ${state.why}.` : "This page has lost its site.";
  return html`<div class="banner bad" role="alert" data-testid="as-of">${what} What you see is as of ${since}; it goes on by itself.</div>`;
}

function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "auto");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
  }, [theme]);
  return html`<button type="button" class="plain" data-testid="theme" onClick=${() => setTheme(THEMES[theme] ?? "auto")} title="Colours: ${theme}" aria-label="Colours: ${theme}; press for ${THEMES[theme]}">${{ auto: "◐", dark: "●", light: "○" }[theme] ?? "◐"}</button>`;
}

// Who one is; people with a password change it here.
function Who({ session }) {
  if (!session.has_password) return html`<span title=${session.role}>${session.user}</span>`;
  const change = async () => {
    const fields = [
      { name: "old_password", label: "Your password now", type: "password", required: true, autocomplete: "current-password" },
      { name: "password", label: "The new one (10 characters or more)", type: "password", required: true, minlength: 10, autocomplete: "new-password" },
      { name: "again", label: "The new one again", type: "password", required: true, autocomplete: "new-password" },
    ];
    const run = async ({ old_password, password, again }) => {
      if (password !== again) throw new Error("The new password is not the same both times.");
      await post("/api/session/password", { old_password, password });
    };
    const text = `You are ${session.user}, ${session.role}. Everywhere else you are signed out.`;
    if (await ask({ title: "Change your password", text, confirm: "Change", fields, run })) toast("Your password is changed.");
  };
  return html`<button type="button" class="plain" data-testid="account" title="Change your password" aria-label="${session.user}: change your password" onClick=${change}>${session.user}</button>`;
}

function Shell({ session, onSession }) {
  const [name, ...rest] = useRoute();
  const views = VIEWS[session.kind].filter(([, , , right]) => !right || session.rights.includes(right));
  const here = views.find(([id]) => id === (name || "home")) ?? views[0];
  const View = here[0] === "assets" && rest[0] ? Asset : here[2];
  const signOut = async () => {
    try {
      await remove("/api/session");
    } catch (problem) {
      toast(problem.message, "bad");
    }
    onSession(await get("/api/session"));
  };
  useEffect(() => {
    live.open();
    return live.close;
  }, []);
  // On a phone the views stand in a row that is wider than the screen.
  useEffect(() => document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }), [here[0]]);
  // Whoever can connect a site that is not connected begins with that.
  useEffect(() => {
    if (session.kind !== "edge" || !session.rights.includes("set_up") || !["", "home"].includes(name)) return;
    get("/api/set-up").then((state) => {
      if (!state.connected && state.place) location.replace("#/set-up");
    }, () => {});
  }, []);
  return html`<div class="shell">
    <a class="skip" href="#title" onClick=${(event) => { event.preventDefault(); document.getElementById("title")?.focus(); }}>Skip to the content</a>
    <nav aria-label="Main">
      <a class="brand" href="#/home"><b>Fieldline</b><span>${session.site} · ${session.kind === "core" ? "headquarters" : "edge"}</span></a>
      <ul>
        ${views.map(([id, label]) => html`<li key=${id}><a href="#/${id}" data-testid="nav-${id}" aria-current=${id === here[0] ? "page" : undefined}>${label}</a></li>`)}
      </ul>
      <div class="who">
        <${Who} session=${session} />
        <${Theme} />
        ${session.sign_in === "users" ? html`<button type="button" class="plain" data-testid="sign-out" onClick=${signOut}>Sign out</button>` : null}
      </div>
    </nav>
    <main>
      ${session.sign_in === "off" ? html`<div class="banner warn" data-testid="sign-in-off">Sign-in is off: everybody who can open this page is operator. Set viewer.sign_in = "users".</div>` : null}
      <${Connection} edge=${session.kind === "edge"} here=${here[0]} />
      <${View} key=${here[0]} session=${session} rest=${rest} />
    </main>
  </div>`;
}

function App() {
  const [session, setSession] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    const start = async () => {
      try {
        // The secret of a one-time link stands behind the #, which browsers send to nobody.
        const [place, ticket] = location.hash.replace(/^#\/?/, "").split("/");
        if (place === "sign-in" && ticket) {
          history.replaceState(null, "", "#/home");
          try {
            return setSession(await post("/api/session", { ticket }));
          } catch (refused) {
            toast(refused.message, "bad");
          }
        }
        setSession(await get("/api/session"));
      } catch (error) {
        setProblem(error);
        setTimeout(start, 3000);
      }
    };
    start();
    onSignedOut(() => setSession((old) => old && { ...old, user: null, rights: [] }));
  }, []);
  let content = html`<p class="loading">${problem ? `${problem.message} Trying again…` : "Loading…"}</p>`;
  if (session) {
    content = session.user
      ? html`<${Shell} key=${session.user} session=${session} onSession=${setSession} />`
      : html`<${SignIn} session=${session} onSession=${setSession} />`;
  }
  return html`${content}<${Toasts} /><${Dialogs} />`;
}

render(html`<${App} />`, document.getElementById("app"));
