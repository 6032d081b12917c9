// Elements, lists and text. All that comes from outside is inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// h("p", {class: "dim", onclick: f}, "text", child): one element. A null child is left out.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.filter((each) => each !== null && each !== undefined));
  return element;
}

export function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

// Only what differs is written: a screen reader is not told again what it has read.
export function text(element, words) {
  const wanted = String(words ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

// The children of `parent` become one for each key, in this order. An element stays the same for
// its key, so that the focus, and what a person has opened, stay too.
export function keyed(parent, keys, make, update) {
  const known = parent.known ?? (parent.known = new Map());
  const wanted = new Set(keys);
  for (const [key, row] of known) {
    if (!wanted.has(key)) {
      row.element.remove();
      known.delete(key);
    }
  }
  let before = parent.firstChild;
  for (const key of keys) {
    let row = known.get(key);
    if (!row) {
      row = make(key);
      known.set(key, row);
    }
    update(row, key);
    if (row.element === before) before = before.nextSibling;
    else parent.insertBefore(row.element, before);
  }
}

// What is shown where there is nothing: words, and the command to type next.
export function empty(words, command) {
  return h("li", { class: "empty" }, h("span", {}, words), command ? h("code", {}, command) : null);
}

// A list by keys, or the words for an empty one.
export function listed(parent, keys, nothing, make, update) {
  const kind = keys.length > 0;
  if (parent.filledWith !== kind) {
    parent.replaceChildren();
    parent.known = undefined;
    parent.filledWith = kind;
    if (!kind) parent.append(nothing());
  }
  if (kind) keyed(parent, keys, make, update);
}

// Says something once, for everybody: at the bottom of the page, and to a screen reader.
let unsaid = 0;
export function say(words, isError = false) {
  const said = byId("said");
  text(said, words);
  said.classList.toggle("error", isError);
  said.classList.add("shown");
  clearTimeout(unsaid);
  unsaid = setTimeout(() => said.classList.remove("shown"), isError ? 8000 : 4000);
}
