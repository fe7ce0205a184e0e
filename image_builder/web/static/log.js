// A log that follows its end, pauses, and shows only lines with some words in them.
import "./page.js";

const MOST = 5000; // Lines kept in the page.
const log = document.getElementById("log");
const search = document.getElementById("log-search");
const found = document.getElementById("log-found");
const pause = document.getElementById("log-pause");
const end = document.getElementById("log-end");
const pauseWords = pause.querySelector("span");
const calm = pauseWords.textContent;

let follows = true;
let held = null; // While paused: the lines that wait.

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
const toEnd = () => { log.scrollTop = log.scrollHeight; };

function sayHeld() {
  const count = held ? held.childElementCount : 0;
  pause.setAttribute("aria-pressed", held ? "true" : "false");
  pauseWords.textContent = held ? pause.dataset.held.replace("{count}", count) : calm;
}

function sift(lines = log.children) {
  const words = search.value.toLowerCase();
  for (const line of lines) line.hidden = words !== "" && !line.textContent.toLowerCase().includes(words);
  found.textContent = words ? found.dataset.words.replace("{count}", log.querySelectorAll(".line:not([hidden])").length) : "";
  mark(words);
}

// https://drafts.csswg.org/css-highlight-api-1/: marks words without touching the lines.
function mark(words) {
  if (!CSS.highlights) return;
  CSS.highlights.delete("found");
  if (!words) return;
  const ranges = [];
  for (const line of log.querySelectorAll(".line:not([hidden])")) {
    const text = line.lastChild, at = text?.nodeType === Node.TEXT_NODE ? text.data.toLowerCase().indexOf(words) : -1;
    if (at < 0) continue;
    const range = new Range();
    range.setStart(text, at);
    range.setEnd(text, at + words.length);
    if (ranges.push(range) > 2000) break;
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

function settle() {
  while (log.childElementCount > MOST) log.firstElementChild.remove();
  sift();
  if (follows) toEnd();
  end.hidden = follows;
}

document.addEventListener("appending", (event) => {
  if (event.detail.target !== log || !held) return;
  event.preventDefault();
  held.append(event.detail.fresh);
  while (held.childElementCount > MOST) held.firstElementChild.remove();
  sayHeld();
});
document.addEventListener("appended", (event) => event.detail.target === log && settle());
document.addEventListener("emptied", () => { held?.replaceChildren(); sift(); });

pause.addEventListener("click", () => {
  const waiting = held;
  held = held ? null : document.createDocumentFragment();
  if (waiting) {
    log.append(waiting);
    settle();
  }
  sayHeld();
});
end.addEventListener("click", () => { follows = true; settle(); log.focus(); });
log.addEventListener("scroll", () => { follows = atEnd(); end.hidden = follows; }, { passive: true });
search.addEventListener("input", () => sift());
