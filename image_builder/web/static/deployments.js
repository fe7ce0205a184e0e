// The page of all projects: search while one types, further rows while one scrolls, a flash where something changed.
import { freshen, reconnect, refresh } from "./page.js";

const isField = (element) => element.matches("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
  event.preventDefault();
  document.getElementById("search").focus();
});

let typed = 0;
document.addEventListener("input", (event) => {
  if (event.target.id !== "search") return;
  clearTimeout(typed);
  typed = setTimeout(() => look(event.target.form), 180);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches(".search")) return;
  event.preventDefault();
  look(event.target);
});

function look(form) {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  const address = query.size ? `/?${query}` : "/";
  history.replaceState(null, "", address);
  refresh(address, true).then(reconnect).catch(() => location.assign(address));
}

async function more(link) {
  link.setAttribute("aria-busy", "true");
  const place = location.href;
  const answer = await fetch(link.href);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (location.href !== place || !link.isConnected) return; // Something else was searched for meanwhile.
  freshen(fresh);
  for (const row of [...fresh.querySelectorAll("#rows > tr")]) {
    if (!document.getElementById(row.id)) document.getElementById("rows").append(row);
  }
  document.getElementById("more").replaceWith(fresh.getElementById("more"));
  watch();
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    more(target).catch(() => target.removeAttribute("aria-busy"));
  }
}, { rootMargin: "600px" });

function watch() {
  const link = document.querySelector("[data-more]");
  if (link) near.observe(link);
}

document.addEventListener("put", ({ detail }) => {
  const row = document.getElementById(detail.id);
  if (row?.localName !== "tr") return;
  row.classList.remove("fresh");
  void row.offsetWidth; // Begin the animation anew.
  row.classList.add("fresh");
});

document.addEventListener("refreshed", watch);
watch();
