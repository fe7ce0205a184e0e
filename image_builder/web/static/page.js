// What every page does: times that stay true, copying, and the one stream of events that keeps it live.
import { put } from "./put.js";

const words = JSON.parse(document.body.dataset.words);
const say = (name, count) => (words[count === 1 ? `${name}_one` : name] ?? "").replace("{count}", count);

function ago(seconds) {
  if (seconds >= 86400) return say("day", Math.floor(seconds / 86400));
  if (seconds >= 3600) return say("hour", Math.floor(seconds / 3600));
  if (seconds >= 60) return say("minute", Math.floor(seconds / 60));
  return seconds < 10 ? say("now") : say("second", Math.floor(seconds));
}

export function freshen(root = document) {
  for (const time of root.querySelectorAll("time.ago, time.age")) {
    const then = Date.parse(time.dateTime);
    const text = ago((Date.now() - then) / 1000);
    if (time.className === "ago" && time.textContent !== text) time.textContent = text;
    time.title = new Date(then).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });
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
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
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

export async function refresh(address = location.href, clean = false) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok && answer.status !== 503) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = document.querySelector("main"), then = fresh.querySelector("main");
  if (then) put(now, then, clean);
  document.title = fresh.title;
  freshen();
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
  const fresh = element(html);
  if (how === "append") {
    if (!present) return;
    freshen(fresh);
    document.dispatchEvent(new CustomEvent("appending", { detail: { target: present } }));
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
setInterval(freshen, 5000);
connect();
