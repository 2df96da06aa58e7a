// Data out of the page, and what a chosen pair shows.
const data = JSON.parse(document.getElementById('data').textContent);
const rows = data.rows, G = data.genes.length, R = rows.perturbation.length;
const COLOURS = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'];
const TOP_GENES = 20, LABELS = 8;
const at = (id) => document.getElementById(id);
const state = { row: data.chosen, gene: null };
let values = {}, pairs;

async function unpack() {
  const bytes = Uint8Array.from(atob(at('arrays').textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  data.arrays.forEach((told, k) => {
    const low = 2 * k * R * G, high = low + R * G;
    values[told.name] = (row) => Array.from({ length: G }, (_, j) => {
      const i = row * G + j, whole = (planes[high + i] << 24 >> 16) | planes[low + i];
      return whole === -32768 ? NaN : whole * told.step;
    });
  });
}

function ofRow() {
  const found = Object.fromEntries(Object.entries(values).map(([name, read]) => [name, read(state.row)]));
  if (found.half_width) {
    found.low = found.predicted.map((v, i) => v + found.offset[i] - found.half_width[i]);
    found.high = found.predicted.map((v, i) => v + found.offset[i] + found.half_width[i]);
  }
  return found;
}

const strongest = (of) => Array.from({ length: G }, (_, i) => i).filter((i) => Number.isFinite(of[i])).sort((a, b) => Math.abs(of[b]) - Math.abs(of[a]) || a - b);
const rate = (significance) => (significance >= 300 ? '< 1e-300' : shown(10 ** -significance));

function geneTold(of, i) {
  let told = `${data.genes[i]}: measured ${shown(of.measured[i])}, predicted ${shown(of.predicted[i])}`;
  if (of.half_width && !Number.isNaN(of.half_width[i])) told += ` (${shown(of.low[i])} to ${shown(of.high[i])})`;
  return `${told}, FDR ${rate(of.significance[i])}`;
}

function groupsOf(of) {
  const groups = data.responses.map((name, k) => ({ name, colour: ['quiet', 'c0', 'c1'][k], at: [] }));
  of.response.forEach((k, i) => groups[k].at.push(i));
  return groups;
}

function drawPair() {
  const of = ofRow(), several = new Set(rows.context).size > 1;
  at('chosen').textContent = rows.perturbation[state.row] + (several ? ` in ${rows.context[state.row]}` : '');
  drawFacts();
  if (of.measured) {
    const order = strongest(of.measured), groups = groupsOf(of), name = (i) => data.genes[i];
    const labelled = order.slice(0, LABELS), barred = state.gene === null ? labelled : [...labelled, state.gene];
    const range = extent([...of.measured, ...of.predicted]);
    const common = { groups, name, labelled, told: (i) => geneTold(of, i), marked: state.gene, order, pick: takeGene };
    const bars = of.low ? barred.filter((i) => Number.isFinite(of.low[i])).map((i) => ({ i, low: of.low[i], high: of.high[i] })) : [];
    plot(at('scatter'), { ...common, x: of.measured, y: of.predicted, xRange: range, yRange: range, diagonal: true,
      xLabel: 'measured change (mean log1p)', yLabel: 'predicted change (mean log1p)', bars });
    const most = extent([0, ...of.significance])[1];
    plot(at('volcano'), { ...common, x: of.measured, y: of.significance, yRange: [0, Math.max(most, 2)], zero: true,
      level: -Math.log10(data.fdr), xLabel: 'measured change (mean log1p)', yLabel: '−log10 false discovery rate' });
  }
  drawTop(of);
  drawMaps();
}

function drawFacts() {
  const place = at('chosen-facts'), fact = (name, value) => {
    if (value === undefined || value === null || value === '' || value === '–') return;
    const card = html('div', place);
    html('b', card, String(value));
    html('span', card, name);
  };
  const get = (key) => (rows[key] ? rows[key][state.row] : undefined);
  place.replaceChildren();
  fact('what made the prediction (route)', get('route'));
  fact(data.regimes[get('regime')] || 'regime', get('regime'));
  fact('Pearson delta', shown(get('pearson_delta')));
  fact(`mean half-width of the ${Math.round(100 * data.level)} % intervals`, shown(get('half_width')));
  const tier = get('tier');
  fact('how well the measured effect repeats', tier ? `${tier}${rows.reliability ? ` (r ${shown(get('reliability'), 2)})` : ''}` : null);
  fact('true effects inside', rows.covered && get('covered') !== null ? `${(100 * get('covered')).toFixed(1)} %` : null);
  fact(`responding genes (FDR < ${data.fdr})`, get('responding'));
  fact('cells measured', get('n_true') || null);
  const distance = get('nearest');
  const itself = get('nearest_gene') === rows.perturbation[state.row];
  fact('nearest trained perturbation', itself ? 'itself' : get('nearest_gene') ? `${get('nearest_gene')}, ${shown(distance, 2)} away` : null);
  fact('flags', get('flags'));
}

function drawTop(of) {
  const by = at('top-by').value, table = at('top'), sets = data.setNames.length > 0;
  const names = ['gene', ...(of.measured ? ['measured', 'FDR'] : []), 'predicted', ...(of.low ? ['interval'] : []), ...(sets ? ['gene sets, smallest first'] : [])];
  const head = document.createElement('tr');
  names.forEach((name) => { html('th', head, name, /^(gene|gene sets.*)$/.test(name) ? '' : 'number').scope = 'col'; });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...strongest(of[by]).slice(0, TOP_GENES).map((i) => {
    const row = document.createElement('tr');
    const first = html('td', row);
    if (of.measured) html('button', first, data.genes[i], 'link').onclick = () => takeGene(i);
    else first.textContent = data.genes[i];
    if (of.measured) { html('td', row, shown(of.measured[i]), 'number'); html('td', row, rate(of.significance[i]), 'number'); }
    html('td', row, shown(of.predicted[i]), 'number');
    if (of.low) {
      const known = Number.isFinite(of.low[i]), outside = known && of.measured && (of.measured[i] < of.low[i] - 1e-3 || of.measured[i] > of.high[i] + 1e-3);
      html('td', row, known ? `${shown(of.low[i])} to ${shown(of.high[i])}${outside ? ' (missed)' : ''}` : '–', 'number');
    }
    if (sets) html('td', row, (data.setsOf[i] || []).map((k) => data.setNames[k]).join(', ') || '–', 'sets');
    return row;
  }));
}

function coloured(by, once) {
  let all = Array.from({ length: R }, (_, i) => i), score = rows.pearson_delta;
  if (once) {
    // contexts of one perturbation lie on one another: its first row stands for all, with their mean score
    const first = new Map();
    all.forEach((i) => first.set(rows.perturbation[i], [...(first.get(rows.perturbation[i]) || []), i]));
    all = [...first.values()].map((members) => members[0]);
    if (by !== 'pearson_delta') return [{ name: 'predicted', colour: 'c0', at: all }];
    score = [];
    for (const members of first.values()) {
      const known = members.map((i) => rows.pearson_delta[i]).filter((v) => v !== null);
      score[members[0]] = known.length ? known.reduce((sum, v) => sum + v, 0) / known.length : null;
    }
  }
  if (by === 'pearson_delta') {
    const known = all.filter((i) => score[i] !== null).sort((a, b) => score[a] - score[b]);
    return ['s0', 's1', 's2', 's3'].map((colour, k) => {
      const part = known.slice(Math.floor(k * known.length / 4), Math.floor((k + 1) * known.length / 4));
      return { name: part.length ? `${shown(score[part[0]], 2)} to ${shown(score[part[part.length - 1]], 2)}` : '', colour, at: part };
    });
  }
  const kinds = [...new Set(rows[by])].sort(), size = (kind) => all.filter((i) => rows[by][i] === kind).length;
  // no colour stands for two kinds: the smallest share the last
  const few = kinds.length > COLOURS.length ? [...kinds].sort((a, b) => size(b) - size(a)).slice(0, COLOURS.length - 1) : kinds;
  const named = kinds.filter((kind) => few.includes(kind));
  const groups = named.map((kind, k) => ({ name: kind || 'not told', colour: COLOURS[k], at: all.filter((i) => rows[by][i] === kind) }));
  if (named.length === kinds.length) return groups;
  return [...groups, { name: `${kinds.length - named.length} others`, colour: COLOURS[COLOURS.length - 1], at: all.filter((i) => !few.includes(rows[by][i])) }];
}

function drawMaps() {
  const by = at('colour-by') && at('colour-by').value;
  data.maps.forEach((map, k) => {
    const once = map.once, points = [...map.places, ...map.others];
    const x = points.map((p) => p[0] ?? NaN), y = points.map((p) => p[1] ?? NaN);
    const others = { name: map.others.length ? 'other genes with features' : '', colour: 'quiet', at: map.others.map((_, i) => R + i) };
    const groups = [others, ...coloured(by, once)], name = (i) => (i >= R ? map.otherNames[i - R] : rows.perturbation[i]);
    const told = (i) => (i >= R ? name(i) : [name(i), ...(once ? [] : [rows.context[i]]),
      ...(rows.pearson_delta && !once ? [`Pearson delta ${shown(rows.pearson_delta[i])}`] : [])].join(', '));
    const there = Number.isFinite(x[state.row]);
    plot(at(`map-${k}`), { x, y, groups, name, told, marked: state.row, labelled: there ? [state.row] : [],
      order: groups.flatMap((group) => group.at).filter((i) => Number.isFinite(x[i])),
      pick: (i) => { if (i < R) pairs.choose(i); },
      xLabel: `first component (${(100 * map.explained[0]).toFixed(0)} %)`, yLabel: `second component (${(100 * map.explained[1]).toFixed(0)} %)` });
  });
}

function takeGene(i) {
  state.gene = i;
  if (at('gene')) at('gene').value = data.genes[i];
  drawPair();
}

function colourChoices() {
  if (!at('colour-by')) return;
  const kinds = ['context', 'regime', 'route'].filter((key) => new Set(rows[key]).size > 1);
  for (const key of [...kinds, ...(rows.pearson_delta ? ['pearson_delta'] : []), ...(kinds.length || rows.pearson_delta ? [] : ['context'])]) {
    html('option', at('colour-by'), key === 'pearson_delta' ? 'Pearson delta' : key).value = key;
  }
  at('colour-by').onchange = drawMaps;
}

unpack().then(() => {
  const gene = at('gene');
  if (gene) {
    at('gene-names').append(...data.genes.map((name) => { const option = document.createElement('option'); option.value = name; return option; }));
    gene.oninput = () => {
      const found = data.genes.findIndex((name) => name.toLowerCase() === gene.value.trim().toLowerCase());
      if (found >= 0 || !gene.value) { state.gene = found >= 0 ? found : null; drawPair(); }
    };
  }
  at('top-by').onchange = () => drawTop(ofRow());
  colourChoices();
  pairs = pairsTable(rows, (i) => { state.row = i; drawPair(); });
  pairs.choose(state.row);
  at('explorer').dataset.ready = 'yes';
}).catch((error) => {
  html('p', at('explorer'), `This browser can't unpack the data of this page (${error.message}): open it in a newer one.`, 'note');
});
