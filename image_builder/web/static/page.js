// What every page does: times that stay true, copying, and the one stream of events that keeps it live.
import { put } from "./put.js";

const words = JSON.parse(document.body.dataset.words);
const say = (name, values = {}) => {
  const text = words[values.count === 1 ? `${name}_one` : name] ?? "";
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
};

function ago(seconds) {
  if (seconds >= 86400) return say("ago.day", { count: Math.floor(seconds / 86400) });
  if (seconds >= 3600) return say("ago.hour", { count: Math.floor(seconds / 3600) });
  if (seconds >= 60) return say("ago.minute", { count: Math.floor(seconds / 60) });
  return seconds < 10 ? say("ago.now") : say("ago.second", { count: Math.floor(seconds) });
}

function lasted(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return say("lasted.second", { count: whole });
  if (whole < 3600) return say("lasted.minute", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
  return say("lasted.hour", { hours: Math.floor(whole / 3600), minutes: Math.floor((whole % 3600) / 60) });
}

const local = (moment, style) => new Date(moment).toLocaleString(document.documentElement.lang, style);
const shown = {
  ago: (then) => ago((Date.now() - then) / 1000),
  lasting: (then) => lasted(Math.max(0, Date.now() - then) / 1000),
  clock: (then) => local(then, { timeStyle: "medium" }),
};

export function freshen(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const then = Date.parse(time.dateTime);
    const text = shown[time.className]?.(then);
    if (text !== undefined && time.textContent !== text) time.textContent = text;
    const title = local(then, { dateStyle: "medium", timeStyle: "medium" });
    if (time.title !== title) time.title = title;
  }
}

export function tell(text) {
  document.getElementById("told").textContent = text;
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("done");
  tell(button.dataset.done);
  setTimeout(() => button.classList.remove("done"), 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button).catch(() => tell(button.dataset.copy));
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    event.preventDefault(); // Without this script the button sends its form at once.
    document.getElementById(opener.dataset.dialog).showModal();
  }
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog").close();
});

// A second press before the answer has come would send a form twice.
document.addEventListener("submit", (event) => {
  if (event.target.method === "post") for (const each of event.target.querySelectorAll("[data-once]")) each.disabled = true;
});

// --- live ---------------------------------------------------------------------------------------------------------
// An element with `data-live="/address"` has the page follow that stream while it is seen. Hidden pages let go:
// a browser has six connections to a host, and each stream holds one.

let source = null;
let opened = false;

function light(on) {
  for (const each of document.querySelectorAll(".live")) each.classList.toggle("on", on);
}

// Answers may overtake each other: what counts is the last that was asked for, as clean as any before it was to be.
let asked = 0;
let cleaning = false;

export async function refresh(address = location.href, clean = false) {
  const mine = ++asked;
  cleaning ||= clean;
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok && answer.status !== 503) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== asked) return;
  const now = document.querySelector("main"), then = fresh.querySelector("main");
  if (then) put(now, then, cleaning);
  cleaning = false;
  document.title = fresh.title;
  freshen();
  document.dispatchEvent(new CustomEvent("refreshed"));
  follow();
}

// The fresh page may go on from a later place, or have nothing more to follow.
function follow() {
  const place = document.querySelector("[data-live]");
  if (!source || (place && new URL(place.dataset.live, location).href === source.url)) return;
  reconnect();
}

function connect() {
  const place = document.querySelector("[data-live]");
  if (!place || source || document.hidden) return;
  source = new EventSource(place.dataset.live);
  source.addEventListener("open", () => {
    light(true);
    if (opened) refresh().catch(() => {}); // What was missed meanwhile.
    opened = true;
  });
  source.addEventListener("error", () => {
    light(false);
    if (source.readyState === EventSource.CLOSED) {
      disconnect();
      setTimeout(connect, 3000);
    }
  });
  source.addEventListener("refresh", () => refresh().catch(() => {}));
  source.addEventListener("put", (event) => apply(JSON.parse(event.data)));
}

// Follow the stream that the page names now.
export function reconnect() {
  disconnect();
  opened = false;
  connect();
}

function disconnect() {
  source?.close();
  source = null;
  light(false);
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

export function apply({ target, html, how, into }) {
  const present = document.getElementById(target);
  if (how === "empty") {
    present?.replaceChildren();
    document.dispatchEvent(new CustomEvent("emptied", { detail: { target: present } }));
    return;
  }
  const fresh = element(html);
  if (how === "append") {
    if (!present) return;
    freshen(fresh);
    const going = new CustomEvent("appending", { cancelable: true, detail: { target: present, fresh } });
    if (!document.dispatchEvent(going)) return; // A script keeps it for later.
    present.append(fresh);
    document.dispatchEvent(new CustomEvent("appended", { detail: { target: present } }));
    return;
  }
  freshen(fresh);
  if (present) put(present, fresh.firstElementChild);
  else if (into) {
    const parent = document.getElementById(into);
    if (!parent) return refresh().catch(() => {});
    parent[how === "first" ? "prepend" : "append"](fresh);
  }
  document.dispatchEvent(new CustomEvent("put", { detail: { id: target, isNew: !present } }));
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
freshen();
setInterval(() => freshen(), 1000);
connect();
