// A scatter plot in an SVG element: points as one path a group, so that thousands cost little and print sharply.
const W = 460, H = 380, LEFT = 54, RIGHT = 12, TOP = 12, BOTTOM = 44;

function element(name, attributes, parent, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function html(name, parent, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function shown(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return value.toExponential(1);
  return value.toFixed(digits).replace('-', '−');
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v)) { if (v < low) low = v; if (v > high) high = v; }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

function ticks(low, high) {
  const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return found.map((v) => [v, Math.abs(v) < step / 2 ? '0' : v.toFixed(digits).replace('-', '−')]);
}

// what: x, y (arrays), groups [{name, colour, at}], xLabel, yLabel, xRange, yRange, diagonal, zero, level, bars [{i, low, high}],
// labelled [i], name(i), told(i), marked (i), order (indices for the arrow keys), pick(i)
function plot(figure, what) {
  const svg = figure.querySelector('svg'), under = figure.querySelector('.under');
  svg.replaceChildren();
  const [x0, x1] = what.xRange || extent(what.x), [y0, y1] = what.yRange || extent(what.y);
  const px = (v) => LEFT + (v - x0) / (x1 - x0) * (W - LEFT - RIGHT);
  const py = (v) => H - BOTTOM - (v - y0) / (y1 - y0) * (H - TOP - BOTTOM);
  axes(svg, what, x0, x1, y0, y1, px, py);
  for (const group of what.groups) {
    let path = '';
    for (const i of group.at) {
      if (Number.isFinite(what.x[i]) && Number.isFinite(what.y[i])) {
        path += `M${px(what.x[i]).toFixed(1)} ${py(what.y[i]).toFixed(1)}h0`;
      }
    }
    element('path', { d: path || 'M0 0', class: 'points', style: `stroke:var(--${group.colour})` }, svg);
  }
  for (const bar of what.bars || []) {
    const at = px(what.x[bar.i]);
    element('path', { d: `M${at} ${py(Math.max(bar.low, y0))}V${py(Math.min(bar.high, y1))}`, class: 'bar' }, svg);
  }
  labels(svg, what, px, py);
  legend(figure.querySelector('.legend'), what.groups);
  const ring = element('circle', { r: 6, class: 'ring', visibility: 'hidden' }, svg);
  const point = (i) => {
    const there = i !== undefined && i !== null && Number.isFinite(what.x[i]) && Number.isFinite(what.y[i]);
    ring.setAttribute('visibility', there ? 'visible' : 'hidden');
    if (there) { ring.setAttribute('cx', px(what.x[i])); ring.setAttribute('cy', py(what.y[i])); }
    under.textContent = there ? what.told(i) : 'Point at one for its name, or use the arrow keys.';
  };
  point(what.marked);
  pointer(svg, what, px, py, point);
}

function axes(svg, what, x0, x1, y0, y1, px, py) {
  element('path', { d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}`, class: 'axis' }, svg);
  for (const [value, text] of ticks(x0, x1)) {
    element('path', { d: `M${px(value)} ${H - BOTTOM}v4`, class: 'axis' }, svg);
    element('text', { x: px(value), y: H - BOTTOM + 17, 'text-anchor': 'middle' }, svg, text);
  }
  for (const [value, text] of ticks(y0, y1)) {
    element('path', { d: `M${LEFT} ${py(value)}h-4`, class: 'axis' }, svg);
    element('text', { x: LEFT - 7, y: py(value) + 4, 'text-anchor': 'end' }, svg, text);
  }
  element('text', { x: (LEFT + W - RIGHT) / 2, y: H - 8, 'text-anchor': 'middle', class: 'name' }, svg, what.xLabel);
  const middle = (TOP + H - BOTTOM) / 2;
  element('text', { x: 13, y: middle, 'text-anchor': 'middle', transform: `rotate(-90 13 ${middle})`, class: 'name' }, svg, what.yLabel);
  if (what.diagonal) {
    const low = Math.max(x0, y0), high = Math.min(x1, y1);
    element('path', { d: `M${px(low)} ${py(low)}L${px(high)} ${py(high)}`, class: 'guide' }, svg);
  }
  if (what.zero && x0 < 0 && x1 > 0) element('path', { d: `M${px(0)} ${TOP}V${H - BOTTOM}`, class: 'guide' }, svg);
  if (what.level !== undefined && what.level < y1) {
    element('path', { d: `M${LEFT} ${py(what.level)}H${W - RIGHT}`, class: 'guide' }, svg);
  }
}

function labels(svg, what, px, py) {
  const taken = [];
  for (const i of what.labelled || []) {
    const name = what.name(i), text = name.length > 18 ? name.slice(0, 17) + '…' : name;
    const width = 7 * text.length + 4, x = px(what.x[i]), y = py(what.y[i]);
    const left = x + width + 6 > W - RIGHT;
    const box = [left ? x - width - 6 : x + 6, y - 9, left ? x - 6 : x + width + 6, y + 5];
    const hidden = taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3]);
    if (hidden || box[1] < 2) continue;
    taken.push(box);
    element('text', { x: left ? x - 7 : x + 7, y: y + 3, 'text-anchor': left ? 'end' : 'start', class: 'label' }, svg, text);
  }
}

function legend(place, groups) {
  place.replaceChildren();
  for (const group of groups) {
    if (!group.name) continue;
    const item = html('span', place, '', 'key');
    html('i', item).style.background = `var(--${group.colour})`;
    item.append(`${group.name} (${group.at.length})`);
  }
}

function pointer(svg, what, px, py, point) {
  let at = null, step = -1;
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), k = W / box.width;
    const mx = (event.clientX - box.left) * k, my = (event.clientY - box.top) * k;
    let best = null, least = 20 * 20;
    for (const i of what.order) {
      const d = (px(what.x[i]) - mx) ** 2 + (py(what.y[i]) - my) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };
  svg.onmousemove = (event) => { at = nearest(event); point(at === null ? what.marked : at); };
  svg.onmouseleave = () => { at = null; point(what.marked); };
  svg.onclick = (event) => { const i = nearest(event); if (i !== null) what.pick(i); };
  svg.onkeydown = (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (move && what.order.length) {
      step = (step + move + what.order.length) % what.order.length;
      at = what.order[step];
      point(at);
    } else if (event.key === 'Enter' && at !== null) {
      what.pick(at);
    } else return;
    event.preventDefault();
  };
}
