"use strict";
const subjects = JSON.parse(document.getElementById("subjects").textContent);
const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777", "#AA3377", "#226644", "#999933", "#882255", "#44AA99"];
const by = id => document.getElementById(id), all = (selector, from = document) => [...from.querySelectorAll(selector)];

function make(name, parent, text, attributes = {}) {
  const svg = ["svg", "line", "text", "polyline", "rect"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

const tip = by("tip");
function say(text, event) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const right = event.clientX + 16 + tip.offsetWidth > innerWidth, below = event.clientY + 16 + tip.offsetHeight > innerHeight;
  tip.style.left = Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 14) + "px";
  tip.style.top = Math.max(4, below ? event.clientY - 12 - tip.offsetHeight : event.clientY + 14) + "px";
}

// The words of a text on a background that says how much attention each gets; an image as squares of grey.
function paint(place, entry) {
  place.replaceChildren();
  if (entry.pixels) {
    const side = Math.round(Math.sqrt(entry.pixels.length));
    const svg = make("svg", place, undefined, {viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": "image of label " + entry.label});
    entry.pixels.forEach((grey, i) => make("rect", svg, undefined,
      {x: i % side, y: Math.floor(i / side), width: 1.02, height: 1.02, fill: `rgb(${grey}, ${grey}, ${grey})`}));
    return;
  }
  entry.words.forEach((word, i) => {
    const span = make("span", place, word);
    if (entry.attention) {
      span.style.background = `rgba(var(--mark), ${(0.8 * entry.attention[i]).toFixed(3)})`;
      span.dataset.tip = (entry.attention[i] * entry.most).toFixed(1) + " × an even share of the attention";
    }
    place.append(" ");
  });
  if (entry.more) make("em", place, `… and ${entry.more} more words`);
}

// Lines over steps, each named in a key; the values at the step that is pointed at.
function plot(place, lines, steps, top, said) {
  place.replaceChildren();
  const wide = Math.max(320, Math.min(736, place.clientWidth || 736)), right = wide - 20;
  const svg = make("svg", place, undefined, {viewBox: `0 0 ${wide} 210`, role: "img", "aria-label": lines.map(line => line.name).join(", ") + " over the steps"});
  const last = Math.max(steps[steps.length - 1], steps[0] + 1), x = step => 60 + (right - 60) * (step - steps[0]) / (last - steps[0]), y = value => 176 - 160 * value / top;
  for (const value of [0, top / 2, top]) {
    make("line", svg, undefined, {x1: 60, x2: right, y1: y(value), y2: y(value), class: "grid"});
    make("text", svg, said(value), {x: 52, y: y(value) + 4, "text-anchor": "end"});
  }
  const shown = steps.filter((_, i) => i % Math.ceil(steps.length / 8) === 0);
  shown.forEach(step => make("text", svg, step, {x: x(step), y: 193, "text-anchor": "middle"}));
  make("text", svg, "step", {x: right, y: 207, "text-anchor": "end"});
  lines.forEach((line, k) => make("polyline", svg, undefined, {points: line.values.map((value, i) => x(steps[i]) + "," + y(value)).join(" "),
    fill: "none", stroke: colours[k % colours.length], "stroke-width": 2.2, "stroke-linejoin": "round"}));
  const at = make("line", svg, undefined, {y1: 16, y2: 176, class: "at", visibility: "hidden"});
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), asked = (event.clientX - box.left) / box.width * wide;
    const i = steps.reduce((best, step, j) => Math.abs(x(step) - asked) < Math.abs(x(steps[best]) - asked) ? j : best, 0);
    at.setAttribute("x1", x(steps[i])); at.setAttribute("x2", x(steps[i])); at.setAttribute("visibility", "visible");
    say(`step ${steps[i]}\n` + lines.map(line => `${line.name}: ${said(line.values[i])}`).join("\n"), event);
  });
  svg.addEventListener("pointerleave", () => { at.setAttribute("visibility", "hidden"); say(""); });
  const key = make("div", place, undefined, {class: "key"});
  lines.forEach((line, k) => { const item = make("span", key); make("i", item).style.borderColor = colours[k % colours.length]; item.append(line.name); });
}

let run = 0, chosen = 0;
function show(index) {
  const {texts} = subjects[run], text = texts[index];
  chosen = index;
  all("#found button").forEach(button => button.setAttribute("aria-pressed", +button.value === index));
  by("answer").textContent = text.label === text.answer ? `Answer ${text.answer}, which is right.` : `Answer ${text.answer}; the label is ${text.label}.`;
  paint(by("words"), text);
  by("deciding").textContent = text.deciding.length ? `Most attention: ${text.deciding.join(", ")}. The stronger its colour, the more a word gets.` : "";
  const classes = subjects[run].classes, ends = text.rates.map((line, k) => ({k, end: line[line.length - 1]}));
  const most = ends.sort((a, b) => b.end - a.end).slice(0, 12).map(({k}) => k).sort((a, b) => a - b);
  plot(by("rates"), most.map(k => ({name: classes[k] ?? String(k), values: text.rates[k]})), text.steps,
    Math.max(1, ...most.flatMap(k => text.rates[k])), value => value.toFixed(2));
  const layers = Object.keys(text.spikes);
  by("spiking").hidden = !layers.length;
  if (!layers.length) return;
  const logs = layers.map(name => ({name, values: text.spikes[name].map(count => Math.log10(count + 1))}));
  plot(by("spikes"), logs, text.spikes[layers[0]].map((_, i) => i + 1), Math.max(1, ...logs.flatMap(line => line.values)),
    value => Math.round(10 ** value - 1).toLocaleString("en"));
  const sum = name => text.spikes[name].reduce((a, b) => a + b, 0).toLocaleString("en");
  by("sent").textContent = `Spikes of each layer at each step, on a logarithmic scale; in all ${layers.map(name => name + " " + sum(name)).join(", ")}.`;
}

function list() {
  const asked = by("find").value.trim().toLowerCase().split(/\s+/), {texts} = subjects[run], found = by("found");
  found.replaceChildren();
  texts.forEach((text, index) => {
    const verdict = text.label === text.answer ? "right" : "wrong";
    const whole = `${verdict} ${text.label} ${text.answer} ${text.words.join(" ")}`.toLowerCase();
    if (!asked.every(word => whole.includes(word))) return;
    const button = make("button", make("li", found), undefined, {type: "button", value: index, "aria-pressed": index === chosen});
    button.append(`${verdict === "right" ? "✓" : "✗"} ${text.label}${verdict === "right" ? "" : " → " + text.answer}`);
    make("span", button, text.words.slice(0, 12).join(" ") || "image " + (index + 1), {class: "start"});
    button.addEventListener("click", () => show(index));
  });
  const none = !found.children.length;
  by("none").hidden = !none; by("found").hidden = none;
  by("none").textContent = texts.length ? "None of these." : "This report shows no single examples of this run.";
}

function choose(place) {
  run = place;
  all(".of-run").forEach(menu => { menu.value = place; });
  all(".subject").forEach(subject => { subject.hidden = +subject.dataset.run !== place; });
  const some = subjects[run].texts.length > 0;
  chosen = 0; by("find").value = ""; list();
  by("text").hidden = !some;
  if (some) show(0);
}

if (subjects.length) {
  all(".of-run").forEach(menu => menu.addEventListener("change", () => choose(+menu.value)));
  by("find").addEventListener("input", () => {
    list();
    const first = by("found").querySelector("button");
    if (first && !all("#found button").some(button => +button.value === chosen)) show(+first.value);
  });
  by("texts").addEventListener("keydown", event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key], places = [by("find"), ...all("#found button")];
    const here = places.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    const next = places[Math.min(places.length - 1, Math.max(0, here + step))];
    next.focus();
    if (next !== by("find")) next.click();
  });
  all(".wrong details").forEach(details => details.addEventListener("toggle", () => {
    const place = details.querySelector(".words"), subject = subjects[+details.closest(".subject").dataset.run];
    if (details.open && !place.childNodes.length) paint(place, subject.mistakes[+details.dataset.place]);
  }));
  choose(0);
}

all("table.sortable").forEach(table => all("thead th", table).forEach((head, column) => {
  const button = make("button", null, head.textContent, {type: "button"});
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0], value = row => row.cells[column].dataset.value;
    all("th", table).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = [...body.rows].some(row => value(row) && isNaN(value(row)));
    const order = (a, b) => !value(a) - !value(b) || (down ? -1 : 1) * (text ? value(a).localeCompare(value(b)) : value(a) - value(b));
    body.append(...[...body.rows].sort(order));
  });
}));

all(".toggles input").forEach(box => box.addEventListener("change", () => all(`[data-series="${box.value}"]`).forEach(
  shown => shown.classList.toggle("away", !box.checked))));
document.addEventListener("pointerover", event => { const told = event.target.closest("[data-tip]"); if (told) say(told.dataset.tip, event); });
document.addEventListener("pointerout", event => { if (event.target.closest("[data-tip]")) say(""); });
all("a.svg").forEach(link => link.addEventListener("click", () => {
  const whole = new XMLSerializer().serializeToString(link.closest("figure").querySelector("svg"));
  const plain = whole.replaceAll("currentColor", "#000000").replaceAll("var(--panel)", "#ffffff");
  link.href = URL.createObjectURL(new Blob([plain], {type: "image/svg+xml"}));
}));
