"""The page: one document with its style and its script, and the policy that lets a browser run these and nothing else.

Nothing of a run is in it. The script asks the server for the state and the image, and writes texts as text.
"""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #26241f; --faint: #6f6b64; --line: #e2dfd8; --bar: #3a6ea5;
  --alarm: #a8452f; font: 16px/1.45 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #191816; --ink: #ece9e2; --faint: #a09b92; --line: #3a3833; --bar: #7fb0e0; --alarm: #e58a72; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0 auto; max-width: 1500px; padding: 1rem clamp(.75rem, 2.5vw, 2.5rem) 2rem; background: var(--paper);
  color: var(--ink); }
header { display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline; justify-content: space-between; }
h1 { margin: 0; font-size: 1.25rem; overflow-wrap: anywhere; }
h2 { margin: 1.4rem 0 .4rem; font-size: .95rem; }
p { margin: 0; }
#status { color: var(--faint); }
#status.over { color: var(--ink); font-weight: 600; }
#status.alarm { color: var(--alarm); font-weight: 600; }
progress { display: block; width: 100%; height: .5rem; margin: .6rem 0 1rem; border: 0; border-radius: 1rem;
  overflow: hidden; appearance: none; background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--bar); }
progress::-moz-progress-bar { background: var(--bar); }
main { display: grid; gap: 0 2rem; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); align-items: start; }
main.tall { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
figure { margin: 0; aspect-ratio: 3 / 2; border-radius: .3rem; background: var(--line); display: grid;
  place-items: center; }
figure.full { background: none; aspect-ratio: auto; }
figure p { color: var(--faint); }
img { display: block; width: 100%; max-height: 84vh; object-fit: contain; border-radius: .3rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .6rem 1rem; margin: 0; }
dt { color: var(--faint); font-size: .8rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dl#settings { grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr); gap: .15rem 1rem; font-size: .875rem; }
dl#settings dt { font-size: inherit; }
svg { display: block; width: 100%; height: 18rem; }
svg text { font-size: 12px; fill: var(--faint); }
svg line { stroke: var(--line); }
svg path { fill: none; stroke-width: 1.5; stroke-linejoin: round; stroke-linecap: round; }
svg path.total { stroke: var(--ink); stroke-width: 2.5; }
ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .1rem 1.5rem; margin: .5rem 0 0;
  padding: 0; list-style: none; font-size: .875rem; }
li { display: flex; align-items: center; gap: .5rem; }
li i { flex: none; width: 1.1rem; height: .2rem; border-radius: 1rem; background: var(--ink); }
li b { margin-left: auto; font-weight: 400; font-variant-numeric: tabular-nums; }
@media (max-width: 48rem) { main, main.tall { display: block; } aside { margin-top: 1rem; } img { max-height: none; }
  dl { grid-template-columns: 1fr 1fr; } svg { height: 15rem; } }
"""

SCRIPT = """
'use strict';
const POLL = 1000, MOST_WAIT = 30000, DECADES = 7;
const COLOURS = ['#3a7fc1', '#d9822b', '#3f9d5b', '#c2504f', '#8d6cc0', '#9a7048', '#d272ab', '#7d8a2e', '#1f9aa6'];
const $ = id => document.getElementById(id);
const colour = index => COLOURS[(index - 1) % COLOURS.length];
let state = null, shown = 0, wait = POLL, timer = 0, busy = false;

function put(parent, name, text, attributes = {}) {
  const node = parent.namespaceURI.endsWith('svg')
    ? document.createElementNS(parent.namespaceURI, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  parent.append(node);
  return node;
}

function duration(seconds) {
  if (seconds === null) return '\\u2026';
  const s = Math.round(seconds), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

function value(x) {
  if (x === null) return '\\u2013';
  return x !== 0 && (Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3) ? x.toExponential(2) : String(+x.toPrecision(4));
}

function label(x) {
  const short = +x.toPrecision(2);
  return x >= 1e5 || x < 1e-3 ? short.toExponential() : String(short);
}

function status(text, kind) {
  if ($('status').textContent !== text) $('status').textContent = text;
  $('status').className = kind;
}

function numbers() {
  const over = state.ended !== '';
  document.title = (over ? '' : `${state.step}/${state.num_steps} `) + state.title;
  $('title').textContent = state.title;
  $('step').textContent = `${state.step} of ${state.num_steps || '\\u2026'}`;
  $('spent').textContent = duration(state.seconds);
  $('left').textContent = over ? '\\u2013' : duration(state.left);
  $('size').textContent = state.image ? `${state.shape[1]} \\u00d7 ${state.shape[0]}` : '\\u2026';
  $('progress').max = state.num_steps || 1;
  $('progress').value = state.step;
  if (over) status(state.ended, state.ended === 'finished' ? 'over' : 'alarm');
  else status(state.num_steps ? 'under way' : 'preparing and compiling\\u2026', '');
}

function settings() {
  if ($('settings').childElementCount) return;
  for (const [name, text] of state.settings) { put($('settings'), 'dt', name); put($('settings'), 'dd', text); }
  $('of').hidden = !state.settings.length;
}

function legend() {
  const list = $('legend'), last = state.points.at(-1) || [];
  $('losses').hidden = !last.length;
  list.replaceChildren();
  state.names.forEach((name, index) => {
    const item = put(list, 'li', null);
    const mark = put(item, 'i', null);
    if (index) mark.style.background = colour(index);
    put(item, 'span', name);
    put(item, 'b', value(last[index + 1] ?? null));
  });
}

// From the largest loss down to the smallest of any term, but for a twentieth of its steps: a term may begin near 0.
function range(points) {
  let low = Infinity, high = -Infinity;
  state.names.forEach((_, index) => {
    const losses = points.map(point => point[index + 1]).filter(x => x > 0).sort((a, b) => a - b);
    if (!losses.length) return;
    low = Math.min(low, losses[Math.floor(losses.length / 20)]);
    high = Math.max(high, losses.at(-1));
  });
  if (low > high) return null;
  low = Math.max(Math.log10(low), Math.log10(high) - DECADES);
  high = Math.log10(high);
  const room = Math.max(0.04 * (high - low), 0.02);
  return [low - room, high + room];
}

function ticks([low, high]) {
  const decades = Math.floor(high) - Math.ceil(low) + 1;
  const parts = decades >= 3 ? [1] : decades === 2 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const found = [];
  for (let exponent = Math.floor(low); exponent <= high; exponent++)
    for (const part of parts) {
      const x = part * 10 ** exponent;
      if (Math.log10(x) >= low && Math.log10(x) <= high) found.push(x);
    }
  return found;
}

function stepTicks(first, last) {
  const size = 10 ** Math.floor(Math.log10(Math.max(1, last - first)));
  const every = Math.max(1, [0.2, 0.5, 1].map(x => x * size).find(x => (last - first) / x <= 6) || 2 * size);
  const found = [];
  for (let x = Math.ceil(first / every) * every; x <= last; x += every) found.push(Math.round(x));
  return found;
}

function curves() {
  const svg = $('curves'), points = state.points, vertical = range(points);
  svg.replaceChildren();
  if (!vertical) return;
  const width = svg.clientWidth, height = svg.clientHeight, left = 58, right = 12, top = 8, bottom = 26;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const first = points[0][0], last = Math.max(state.num_steps, first + 1), [low, high] = vertical;
  const x = step => left + (width - left - right) * (step - first) / (last - first);
  const y = loss => {
    const place = height - bottom - (height - top - bottom) * (Math.log10(loss) - low) / (high - low);
    return Math.min(place, height - bottom);
  };
  for (const loss of ticks(vertical)) {
    put(svg, 'line', null, {x1: left, x2: width - right, y1: y(loss), y2: y(loss)});
    put(svg, 'text', label(loss), {x: left - 8, y: y(loss) + 4, 'text-anchor': 'end'});
  }
  for (const step of stepTicks(first, last))
    put(svg, 'text', step, {x: x(step), y: height - 8, 'text-anchor': 'middle'});
  state.names.map((_, index) => index).reverse().forEach(index => {
    let path = '', pen = 'M';
    for (const point of points) {
      const loss = point[index + 1];
      if (loss > 0) path += `${pen}${x(point[0]).toFixed(1)} ${y(loss).toFixed(1)}`;
      pen = loss > 0 ? 'L' : 'M';
    }
    if (path && !path.includes('L')) path += 'h0';
    if (path) put(svg, 'path', null, index ? {d: path, stroke: colour(index)} : {d: path, class: 'total'});
  });
}

async function image() {
  if (state.image === shown) return;
  const number = state.image, answer = await fetch('/image', {cache: 'no-store'});
  if (!answer.ok) return;
  const image = $('image'), before = image.src;
  const loaded = new Promise((done, fail) => { image.onload = done; image.onerror = fail; });
  image.src = URL.createObjectURL(await answer.blob());
  await loaded;
  image.hidden = false;
  $('waiting').hidden = true;
  $('frame').className = 'full';
  $('all').className = image.naturalHeight > image.naturalWidth ? 'tall' : '';
  image.alt = `The image after step ${state.step}`;
  URL.revokeObjectURL(before);
  shown = number;
}

async function look() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    state = await (await fetch('/state', {cache: 'no-store'})).json();
    numbers(); settings(); legend(); curves();
    await image();
    wait = POLL;
  } catch (problem) {
    status(state ? 'no answer: the run is over, or was broken off' : 'no answer', 'alarm');
    wait = Math.min(2 * wait, MOST_WAIT);
  }
  busy = false;
  if (!state || !state.ended || state.image !== shown) timer = setTimeout(look, wait);
}

addEventListener('resize', () => state && curves());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !(state && state.ended)) look();
});
look();
"""

PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>jnst</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1 id="title">jnst</h1><p id="status" role="status">connecting…</p></header>
<progress id="progress" value="0" max="1" aria-label="Steps done"></progress>
<main id="all">
<figure id="frame"><img id="image" alt="" hidden><p id="waiting">no image yet</p></figure>
<aside>
<dl>
<div><dt>Step</dt><dd id="step">…</dd></div>
<div><dt>Time left</dt><dd id="left">…</dd></div>
<div><dt>Time spent</dt><dd id="spent">…</dd></div>
<div><dt>Pixels</dt><dd id="size">…</dd></div>
</dl>
<section id="losses" hidden>
<h2>Losses</h2>
<svg id="curves" role="img" aria-label="Losses over the steps, on a logarithmic scale"></svg>
<ul id="legend"></ul>
</section>
<h2 id="of" hidden>Settings</h2>
<dl id="settings"></dl>
</aside>
</main>
<noscript><p>This page needs JavaScript; the image alone is at <a href="/image">/image</a>.</p></noscript>
<script>{SCRIPT}</script>
</body>
</html>
""".encode()


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_source(SCRIPT)}",
        f"style-src {_source(STYLE)}",
        "connect-src 'self'",
        "img-src blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The content security policy: of scripts and styles these two only, no other host, no frames."""
