// The form is judged while one types: the server writes the file and says what is wrong with it, and where.
import { put } from "./put.js";

const form = document.getElementById("draft");
const ignoredBy = JSON.parse(form.dataset.ignored);
const touched = new Set();
let judging = null, sizing = null, judgeLater = 0, sizeLater = 0, sized = "";

function ask(address, controller) {
  const body = new URLSearchParams(new FormData(form));
  return fetch(address, { method: "POST", body, signal: controller.signal }).then((answer) => (answer.ok ? answer.json() : null));
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

async function judge() {
  judging?.abort();
  judging = new AbortController();
  const answer = await ask("/new/preview", judging).catch(() => null);
  if (!answer) return;
  put(document.getElementById("preview"), element(answer.preview));
  for (const place of form.querySelectorAll("[data-told]")) say(place.dataset.told, answer.wrong[place.dataset.told]);
}

// What was not touched yet is not called wrong: one is still on the way to it.
function say(name, messages) {
  const place = document.getElementById(`told-${name}`), input = document.getElementById(`f-${name}`);
  const shown = messages && touched.has(name);
  place.textContent = shown ? messages.join("; ") : "";
  place.hidden = !shown;
  if (input) shown ? input.setAttribute("aria-invalid", "true") : input.removeAttribute("aria-invalid");
}

async function measure() {
  const now = `${form.elements.packages?.value.trim()}|${form.elements.python?.value}|${form.elements.accelerator?.value}`;
  if (!form.elements.packages || now === sized) return;
  sized = now;
  sizing?.abort();
  sizing = new AbortController();
  const answer = await ask("/new/size", sizing).catch(() => null);
  if (answer) put(document.getElementById("size"), element(answer.size));
}

function showWhatCounts() {
  const target = form.elements.target?.value;
  const ignored = new Set(ignoredBy[target] ?? []);
  for (const field of form.querySelectorAll("[data-field]")) {
    const means = !ignored.has(field.dataset.field);
    field.classList.toggle("ignored", !means);
    const note = field.querySelector(".means-nothing");
    if (note) note.hidden = means;
  }
  form.classList.toggle("prebuilt", Boolean(form.elements.prebuilt?.checked));
}

form.addEventListener("input", (event) => {
  touched.add(event.target.name);
  showWhatCounts();
  clearTimeout(judgeLater);
  judgeLater = setTimeout(judge, 250);
  clearTimeout(sizeLater);
  sizeLater = setTimeout(measure, 900);
});

// Enter in a field of one line judges the form, where it is, as without this script a new page would.
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || event.target.nodeName !== "INPUT") return;
  event.preventDefault();
  for (const field of form.elements) touched.add(field.name);
  judge();
});

const editor = document.getElementById("f-text");
editor?.addEventListener("keydown", (event) => {
  // Tab leaves the field, as everywhere; two spaces are what YAML is indented with.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  const before = editor.value.slice(0, editor.selectionStart);
  const indent = before.slice(before.lastIndexOf("\n") + 1).match(/^ */)[0];
  const deeper = before.endsWith(":") ? "  " : "";
  event.preventDefault();
  document.execCommand("insertText", false, `\n${indent}${deeper}`); // keeps what Ctrl-Z undoes
});

showWhatCounts();
measure();
