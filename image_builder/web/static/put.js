// Make an element like another without replacing it: focus, selection, hover and what is unfolded stay.

const KEPT = new Set(["open"]); // What the visitor has unfolded is his.

// clean: also remove what a page has gathered by itself (`data-keep`), e.g. rows of further pages.
export function put(old, fresh, clean = false) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.dataset?.own !== undefined) return; // A part that a script looks after by itself.
  const keeps = !clean && old.dataset?.keep !== undefined;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !KEPT.has(name)) old.setAttribute(name, value);
  }
  children(old, fresh, clean, keeps);
}

function children(old, fresh, clean, keeps) {
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = child.id ? known.get(child.id) : at;
    if (match && !child.id && (match.id || match.nodeName !== child.nodeName)) match = null;
    if (!match) {
      old.insertBefore(child, at);
      continue;
    }
    if (match !== at) old.insertBefore(match, at);
    at = match.nextSibling;
    if (match.nodeType === Node.ELEMENT_NODE) put(match, child, clean);
    else if (match.nodeValue !== child.nodeValue) match.nodeValue = child.nodeValue;
  }
  while (at) {
    const next = at.nextSibling;
    if (!keeps) at.remove();
    at = next;
  }
}
