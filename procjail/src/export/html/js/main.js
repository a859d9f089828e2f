// Buttons, keys, colours, and what happens when the window changes.

const themes = ['auto', 'light', 'dark'];

function setTheme(name) {
  const root = document.documentElement;
  if (name === 'auto') delete root.dataset.theme;
  else root.dataset.theme = name;
  const button = $('#theme');
  button.querySelector('span').textContent = name;
  button.setAttribute('aria-label', `Colours: ${name === 'auto' ? 'as the system\'s' : name}`);
  recolour();
}

function recolour() {
  readPalette();
  timeline.repaint();
  memory.repaint();
}

function measure() {
  timeline.measure();
  memory.measure();
  table.repaint(true);
}

const ACTIONS = {
  'zoom-in': () => view.zoom(0.5),
  'zoom-out': () => view.zoom(2),
  left: () => view.pan(-0.25),
  right: () => view.pan(0.25),
  fit: () => view.fit(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $('#help').open) return;
  const typing = event.target.matches('input[type="search"]');
  if (event.key === 'Escape') {
    const menu = $('#kinds-menu');
    if (menu.open) menu.open = false;
    else if (event.target.id === 'lane-filter') timeline.filter(event.target.value = '');
    else table.clear();
    tip.hide();
    return;
  }
  if (typing) return;
  const inPlot = event.target.matches('#lanes, #memory-canvas') || event.target === document.body;
  const inGrid = event.target.matches('#grid');
  const action = { '+': 'zoom-in', '=': 'zoom-in', '-': 'zoom-out', 0: 'fit' }[event.key]
    ?? (inPlot && { ArrowLeft: 'left', ArrowRight: 'right' }[event.key]);
  if (action && !inGrid) ACTIONS[action]();
  else if (event.key === '/') $('#search').focus();
  else if (event.key === '?') $('#help').showModal();
  else if (event.key === 't') $('#lanes').focus();
  else if (event.key === 'm') $('#memory-canvas')?.focus();
  else if (event.key === 'e') $('#grid').focus();
  else return;
  event.preventDefault();
}

function followHash() {
  const seq = /^#e(\d+)$/.exec(location.hash);
  if (seq) table.goTo(Number(seq[1]));
}

function start() {
  readPalette();
  laneModel.build();
  measure();
  table.refresh();
  memory.show('kinds');
  for (const button of document.querySelectorAll('[data-do]')) {
    button.addEventListener('click', ACTIONS[button.dataset.do]);
  }
  $('#theme').addEventListener('click', () => {
    const now = document.documentElement.dataset.theme ?? 'auto';
    setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
  });
  $('#keys').addEventListener('click', () => $('#help').showModal());
  $('#lane-filter').addEventListener('input', rememberLater(() => timeline.filter($('#lane-filter').value), 80));
  document.querySelector('.tree tbody').addEventListener('click', (event) => {
    const row = event.target.closest('tr');
    if (!row || String(getSelection()) !== '') return;
    const lane = Number(row.dataset.lane);
    const group = LANES.group[lane];
    const number = group >= 0 ? DATA.groups[group][1] : 1;
    table.ofLanes(lane, number, laneModel.title({ lane, count: number, group }));
  });
  // The rows that links point to are not seen when there is a script.
  document.addEventListener('click', (event) => {
    const link = event.target.closest('a.seq');
    const seq = link && Number(link.hash.slice(2));
    if (link && table.goTo(seq)) event.preventDefault();
  });
  addEventListener('hashchange', followHash);
  addEventListener('keydown', onKey);
  new ResizeObserver(measure).observe(document.body);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour);
  followHash();
  document.documentElement.dataset.ready = '';
}

start();
