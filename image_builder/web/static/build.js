// One build: packages are searched here, the log stays at its end while one is there.
const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.querySelectorAll("#packages tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  filter.closest("[data-shown-by-script]").hidden = false;
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, index) => { row.hidden = !words.every((word) => texts[index].includes(word)); });
  });
}

const log = document.querySelector(".log");
if (log) {
  let atEnd = true;
  log.scrollTop = log.scrollHeight;
  log.addEventListener("scroll", () => { atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24; });
  new MutationObserver(() => { if (atEnd) log.scrollTop = log.scrollHeight; }).observe(log, { childList: true, subtree: true });
}
