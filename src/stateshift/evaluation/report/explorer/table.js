// The table of pairs: filtered, sorted, one of them chosen.
const FIRST = 300;
const WHOLE = new Set(['responding', 'n_true', 'n_sources']);
const TIERS = ['strong', 'medium', 'weak'];
const TEXT = new Set(['perturbation', 'context', 'regime', 'route', 'tier', 'nearest_gene', 'flags']);

function pairsTable(rows, choose) {
  const table = document.getElementById('pairs'), body = table.tBodies[0];
  const heads = [...table.querySelectorAll('th')], keys = heads.map((head) => head.dataset.key);
  const n = rows.perturbation.length, more = document.getElementById('more');
  const state = { key: rows.pearson_delta ? 'pearson_delta' : 'perturbation', down: Boolean(rows.pearson_delta), chosen: 0, all: false };
  let order = [];

  const cell = (key, value) => {
    if (typeof value === 'string') return value;
    if (value === null || value === undefined) return '–';
    if (WHOLE.has(key)) return String(value);
    return key === 'covered' ? `${(100 * value).toFixed(1)} %` : shown(value);
  };

  const compare = (a, b) => {
    const u = rows[state.key][a], v = rows[state.key][b];
    const gone = (value) => value === null || value === '';
    if (gone(u) || gone(v)) return gone(u) - gone(v) || a - b;
    const found = state.key === 'tier' ? TIERS.indexOf(u) - TIERS.indexOf(v) : typeof u === 'string' ? u.localeCompare(v) : u - v;
    return (state.down ? -found : found) || a - b;
  };

  const filtered = () => {
    const words = document.getElementById('filter').value.trim().toLowerCase();
    const wanted = [...document.querySelectorAll('[data-filter]')].filter((s) => s.value).map((s) => [s.dataset.filter, s.value]);
    return Array.from({ length: n }, (_, i) => i).filter((i) =>
      rows.perturbation[i].toLowerCase().includes(words) && wanted.every(([key, value]) => rows[key][i] === value));
  };

  function draw() {
    order = filtered().sort(compare);
    const drawn = state.all ? order : order.slice(0, FIRST);
    body.replaceChildren(...drawn.map((i) => {
      const row = document.createElement('tr');
      row.dataset.row = i;
      for (const key of keys) html('td', row, cell(key, rows[key][i]), TEXT.has(key) ? '' : 'number');
      return row;
    }));
    heads.forEach((head) => head.setAttribute('aria-sort',
      head.dataset.key !== state.key ? 'none' : state.down ? 'descending' : 'ascending'));
    document.getElementById('count').textContent = `${order.length.toLocaleString('en')} of ${n.toLocaleString('en')}`;
    more.hidden = drawn.length === order.length;
    more.textContent = `Show all ${order.length.toLocaleString('en')} rows`;
    mark();
  }

  function mark() {
    const drawn = [...body.rows], chosen = drawn.find((row) => Number(row.dataset.row) === state.chosen);
    for (const row of drawn) {
      row.tabIndex = row === (chosen || drawn[0]) ? 0 : -1;
      if (row === chosen) row.setAttribute('aria-current', 'true');
      else row.removeAttribute('aria-current');
    }
    return chosen;
  }

  function take(row) {
    state.chosen = Number(row.dataset.row);
    mark();
    row.focus();
    choose(state.chosen);
  }

  body.onclick = (event) => { const row = event.target.closest('tr'); if (row) take(row); };
  body.onkeydown = (event) => {
    const drawn = [...body.rows], at = drawn.indexOf(document.activeElement), last = drawn.length - 1;
    const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last, Enter: at, ' ': at }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    take(drawn[to]);
  };
  heads.forEach((head) => {
    head.querySelector('button').onclick = () => {
      const key = head.dataset.key;
      state.down = state.key === key ? !state.down : !TEXT.has(key);
      state.key = key;
      draw();
    };
  });
  document.getElementById('filter').oninput = draw;
  document.querySelectorAll('[data-filter]').forEach((select) => { select.onchange = draw; });
  const showAll = () => { state.all = true; draw(); };
  more.onclick = showAll;
  window.addEventListener('beforeprint', showAll);
  draw();
  return {
    choose(i) {
      state.chosen = i;
      const row = mark();
      // the frame alone scrolls, not the page
      if (row) table.parentElement.scrollTop = row.offsetTop - table.parentElement.clientHeight / 2;
      choose(i);
    },
  };
}
