// Polls the server for the state and the image of a run, and shows them. Texts are only ever inserted as text.
'use strict';
const POLL = 1000, MAX_WAIT = 30000, MAX_DECADES = 7;  // milliseconds; decades of the loss axis
const COLOURS = ['#3a7fc1', '#d9822b', '#3f9d5b', '#c2504f', '#8d6cc0', '#9a7048', '#d272ab', '#7d8a2e', '#1f9aa6'];
const $ = id => document.getElementById(id);
const colour = index => COLOURS[(index - 1) % COLOURS.length];
let state = null, shown = 0, wait = POLL, timer = 0, busy = false;

function add(parent, name, text, attributes = {}) {
  const node = document.createElementNS(parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  parent.append(node);
  return node;
}

function duration(seconds) {
  if (seconds === null) return '…';
  const s = Math.round(seconds), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

function number(x, digits = 4) {
  if (x === null) return '–';
  const rounded = +x.toPrecision(digits), size = Math.abs(x);
  return x !== 0 && (size >= 1e5 || size < 1e-3) ? rounded.toExponential() : String(rounded);
}

function showStatus(text, kind) {
  if ($('status').textContent !== text) $('status').textContent = text;
  $('status').className = kind;
}

function showNumbers() {
  const over = state.ended !== '';
  document.title = (over ? '' : `${state.step}/${state.num_steps} `) + state.title;
  $('title').textContent = state.title;
  $('step').textContent = `${state.step} of ${state.num_steps || '…'}`;
  $('spent').textContent = duration(state.seconds);
  $('left').textContent = over ? '–' : duration(state.left);
  $('size').textContent = state.image ? `${state.shape[1]} × ${state.shape[0]}` : '…';
  $('progress').max = state.num_steps || 1;
  $('progress').value = state.step;
  if (over) showStatus(state.ended, state.ended === 'finished' ? 'over' : 'alarm');
  else showStatus(state.waiting || (state.num_steps ? 'running' : 'preparing'), '');
}

function showSettings() {
  if ($('settings').childElementCount) return;
  for (const [name, text] of state.settings) { add($('settings'), 'dt', name); add($('settings'), 'dd', text); }
  $('settings-heading').hidden = !state.settings.length;
}

function showLegend() {
  const list = $('legend'), last = state.points.at(-1) || [];
  $('losses').hidden = !last.length;
  list.replaceChildren();
  state.names.forEach((name, index) => {
    const item = add(list, 'li', null);
    const mark = add(item, 'i', null);
    if (index) mark.style.background = colour(index);
    add(item, 'span', name);
    add(item, 'b', number(last[index + 1] ?? null));
  });
}

// The logarithms of the ends of the loss axis. It ignores a twentieth of each term's steps, because a term may start
// near 0.
function lossRange(points) {
  let low = Infinity, high = -Infinity;
  state.names.forEach((_, index) => {
    const losses = points.map(point => point[index + 1]).filter(x => x > 0).sort((a, b) => a - b);
    if (!losses.length) return;
    low = Math.min(low, losses[Math.floor(losses.length / 20)]);
    high = Math.max(high, losses.at(-1));
  });
  if (low > high) return null;
  high = Math.log10(high);
  low = Math.max(Math.log10(low), high - MAX_DECADES);
  const room = Math.max(0.04 * (high - low), 0.02);
  return [low - room, high + room];
}

function lossTicks([low, high]) {
  const decades = Math.floor(high) - Math.ceil(low) + 1;
  const factors = decades >= 3 ? [1] : decades === 2 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let exponent = Math.floor(low); exponent <= high; exponent++)
    for (const factor of factors) {
      const x = factor * 10 ** exponent;
      if (Math.log10(x) >= low && Math.log10(x) <= high) ticks.push(x);
    }
  return ticks;
}

function stepTicks(first, last) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, last - first)));
  const every = Math.max(1, [0.2, 0.5, 1].map(x => x * power).find(x => (last - first) / x <= 6) || 2 * power);
  const ticks = [];
  for (let x = Math.ceil(first / every) * every; x <= last; x += every) ticks.push(Math.round(x));
  return ticks;
}

function showCurves() {
  const svg = $('curves'), points = state.points, range = lossRange(points);
  svg.replaceChildren();
  if (!range) return;
  const width = svg.clientWidth, height = svg.clientHeight, left = 58, right = 12, top = 8, bottom = 26;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const first = points[0][0], last = Math.max(state.num_steps, first + 1), [low, high] = range;
  const x = step => left + (width - left - right) * (step - first) / (last - first);
  const y = loss => {
    const place = height - bottom - (height - top - bottom) * (Math.log10(loss) - low) / (high - low);
    return Math.min(place, height - bottom);
  };
  for (const loss of lossTicks(range)) {
    add(svg, 'line', null, {x1: left, x2: width - right, y1: y(loss), y2: y(loss)});
    add(svg, 'text', number(loss, 2), {x: left - 8, y: y(loss) + 4, 'text-anchor': 'end'});
  }
  for (const step of stepTicks(first, last))
    add(svg, 'text', step, {x: x(step), y: height - 8, 'text-anchor': 'middle'});
  state.names.map((_, index) => index).reverse().forEach(index => {  // the total last, on top
    let path = '', pen = 'M';
    for (const point of points) {
      const loss = point[index + 1];
      if (loss > 0) path += `${pen}${x(point[0]).toFixed(1)} ${y(loss).toFixed(1)}`;
      pen = loss > 0 ? 'L' : 'M';
    }
    if (path && !path.includes('L')) path += 'h0';
    if (path) add(svg, 'path', null, index ? {d: path, stroke: colour(index)} : {d: path, class: 'total'});
  });
}

async function showImage() {
  if (state.image === shown) return;
  const number = state.image, step = state.step, answer = await fetch('/image', {cache: 'no-store'});
  if (!answer.ok) return;
  const image = $('image'), before = image.src;
  const loaded = new Promise((resolve, reject) => { image.onload = resolve; image.onerror = reject; });
  image.src = URL.createObjectURL(await answer.blob());
  await loaded;
  image.hidden = false;
  $('waiting').hidden = true;
  $('frame').className = 'full';
  $('main').className = image.naturalHeight > image.naturalWidth ? 'tall' : '';
  image.alt = `The image after step ${step}`;
  URL.revokeObjectURL(before);
  shown = number;
}

async function poll() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    state = await (await fetch('/state', {cache: 'no-store'})).json();
    showNumbers(); showSettings(); showLegend(); showCurves();
    await showImage();
    wait = POLL;
  } catch (problem) {
    showStatus(state ? 'no answer: the run has ended or was interrupted' : 'no answer', 'alarm');
    wait = Math.min(2 * wait, MAX_WAIT);
  }
  busy = false;
  if (!state || !state.ended || state.image !== shown) timer = setTimeout(poll, wait);
}

addEventListener('resize', () => state && showCurves());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !(state && state.ended)) poll();
});
poll();
