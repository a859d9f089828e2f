// The events: found, filtered, and drawn as far as they are seen.

const table = (() => {
  const grid = $('#grid');
  const body = grid.querySelector('.rows');
  const details = $('#details');
  const HEIGHT = 26;
  const MORE = 10;
  const total = EVENTS.seq.length;
  const filter = { words: [], kinds: new Set(), lanes: null, minor: false, cited: false };
  let found = [];
  let selected = -1;
  let haystack = null;

  /** What is searched, made when it is first asked for. */
  function hay(index) {
    haystack ??= new Array(total);
    return (haystack[index] ??= [`#${EVENTS.seq[index]}`, EVENTS.jail_pid[index] || '', EVENTS.pid[index],
      DATA.names[EVENTS.name[index]], DATA.kinds[EVENTS.kind[index]].label, EVENTS.text[index], EVENTS.detail[index]]
      .join(' ').toLowerCase());
  }

  function fits(index) {
    if (filter.kinds.size > 0) {
      if (!filter.kinds.has(EVENTS.kind[index])) return false;
    } else if (!filter.minor && EVENTS.rank[index] === MINOR && filter.words.length === 0 && filter.lanes === null) {
      return false;
    }
    if (filter.cited && !CITED.has(EVENTS.seq[index])) return false;
    if ($('#in-window').checked && (EVENTS.t[index] < view.from || EVENTS.t[index] > view.to)) return false;
    if (filter.lanes !== null) {
      const [first, number] = filter.lanes;
      const within = (lane) => lane >= first && lane < first + number;
      if (!within(EVENTS.lane[index]) && !within(EVENTS.at[index])) return false;
    }
    if (filter.words.length === 0) return true;
    const text = hay(index);
    return filter.words.every((word) => text.includes(word));
  }

  function refresh() {
    const current = found[selected];
    found = [];
    for (let index = 0; index < total; index += 1) if (fits(index)) found.push(index);
    selected = current === undefined ? -1 : found.indexOf(current);
    body.style.height = `${Math.max(found.length * HEIGHT, 60)}px`;
    grid.setAttribute('aria-rowcount', String(found.length + 1));
    const minor = filter.minor || filter.words.length > 0 || filter.kinds.size > 0 || filter.lanes !== null;
    $('#found').textContent = `${count(found.length)} of ${count(total)}${minor ? '' : ' (minor ones not shown)'}`;
    chips();
    repaint(true);
  }

  let drawn = [-1, -1];

  function draw(anew) {
    const first = Math.max(0, Math.floor(grid.scrollTop / HEIGHT) - MORE);
    const last = Math.min(found.length, first + Math.ceil(grid.clientHeight / HEIGHT) + 2 * MORE);
    if (!anew && drawn[0] === first && drawn[1] === last) return;
    drawn = [first, last];
    const rows = document.createDocumentFragment();
    for (let at = first; at < last; at += 1) rows.append(rowOf(at));
    if (found.length === 0) rows.append(element('p', 'no event fits', 'empty'));
    body.replaceChildren(rows);
    if (selected >= first && selected < last) grid.setAttribute('aria-activedescendant', `r${found[selected]}`);
    else grid.removeAttribute('aria-activedescendant');
  }

  function rowOf(at) {
    const index = found[at];
    const row = element('div', undefined, 'row');
    row.id = `r${index}`;
    row.setAttribute('role', 'row');
    row.setAttribute('aria-rowindex', String(at + 2));
    row.setAttribute('aria-selected', String(at === selected));
    row.classList.toggle('minor', EVENTS.rank[index] === MINOR);
    row.classList.toggle('cited', CITED.has(EVENTS.seq[index]));
    row.style.top = `${at * HEIGHT}px`;
    row.dataset.at = String(at);
    const cell = (text, className) => {
      const made = element('span', text, className);
      made.setAttribute('role', 'gridcell');
      row.append(made);
      return made;
    };
    cell(String(EVENTS.seq[index]));
    cell(moment(EVENTS.t[index]));
    // The details have the day.
    cell(utc(EVENTS.t[index]).slice(11, 26));
    cell(EVENTS.jail_pid[index] > 0 ? String(EVENTS.jail_pid[index]) : '–');
    cell(DATA.names[EVENTS.name[index]]);
    cell(DATA.kinds[EVENTS.kind[index]].label);
    const what = cell(undefined);
    what.append(element('span', EVENTS.text[index], `tone ${DATA.tones[EVENTS.tone[index]]}`));
    if (EVENTS.detail[index]) what.append(element('span', `  ${EVENTS.detail[index]}`, 'dim'));
    return row;
  }

  let anew = false;
  const paint = painter(() => {
    draw(anew);
    anew = false;
  });
  function repaint(all) {
    anew ||= all;
    paint();
  }

  /** What is filtered by, each to be taken away. */
  function chips() {
    const made = [];
    const chip = (text, remove) => {
      const button = element('button', `${text} ×`);
      button.type = 'button';
      button.addEventListener('click', () => {
        remove();
        refresh();
      });
      made.push(button);
    };
    if (filter.lanes !== null) chip(`process: ${filter.lanes[2]}`, () => { filter.lanes = null; });
    for (const kind of filter.kinds) {
      chip(DATA.kinds[kind].label, () => {
        filter.kinds.delete(kind);
        $(`#kind-${kind}`).checked = false;
      });
    }
    $('#chips').replaceChildren(...made);
  }

  function select(at, scroll = true) {
    selected = Math.max(0, Math.min(at, found.length - 1));
    if (found.length === 0) selected = -1;
    if (scroll && selected >= 0) {
      const room = grid.clientHeight - HEIGHT;
      const top = selected * HEIGHT;
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (top + HEIGHT > grid.scrollTop + room - 12) grid.scrollTop = top + HEIGHT - room + 12;
    }
    tell();
    repaint(true);
  }

  function tell() {
    const index = found[selected];
    details.hidden = index === undefined;
    if (index === undefined) return;
    const list = element('dl');
    const fact = (name, text) => text && list.append(element('dt', name), element('dd', text));
    fact(`#${EVENTS.seq[index]}`, `${EVENTS.text[index]}${EVENTS.detail[index] ? `  (${EVENTS.detail[index]})` : ''}`);
    fact('when', `${moment(EVENTS.t[index])} since the gate, ${utc(EVENTS.t[index])}`);
    fact('kind', DATA.kinds[EVENTS.kind[index]].name);
    const pid = EVENTS.jail_pid[index];
    fact('task', `${DATA.names[EVENTS.name[index]]}, host PID ${EVENTS.pid[index]}${pid > 0 ? `, PID ${pid} in the jail` : ''}`);
    const lane = EVENTS.lane[index];
    if (lane >= 0) fact('command', LANES.command[lane]);
    const go = element('button', 'show in the timeline');
    go.type = 'button';
    go.addEventListener('click', () => timeline.show(index));
    const parts = [list, go];
    if (lane >= 0) {
      const only = element('button', `only ${laneTitle(lane)}`);
      only.type = 'button';
      only.addEventListener('click', () => ofLanes(lane, 1, laneTitle(lane)));
      parts.push(only);
    }
    details.replaceChildren(...parts);
  }

  function ofLanes(lane, number, name) {
    filter.lanes = [lane, number, name];
    refresh();
    grid.scrollTop = 0;
    select(0);
    $('#events').scrollIntoView();
    grid.focus({ preventScroll: true });
  }

  function clear() {
    filter.words = [];
    filter.kinds.clear();
    filter.lanes = null;
    for (const id of ['#minor', '#cited', '#in-window']) $(id).checked = false;
    filter.minor = false;
    filter.cited = false;
    $('#search').value = '';
    for (const box of document.querySelectorAll('#kinds input')) box.checked = false;
    refresh();
  }

  /** Selects an event, whatever is filtered. */
  function selectEvent(index, scroll) {
    if (!fits(index)) {
      clear();
      if (!fits(index)) {
        filter.minor = true;
        $('#minor').checked = true;
        refresh();
      }
    }
    select(found.indexOf(index));
    if (scroll) grid.scrollIntoView({ block: 'center' });
  }

  function makeKinds() {
    const held = new Map();
    for (const kind of EVENTS.kind) held.set(kind, (held.get(kind) ?? 0) + 1);
    DATA.kinds.forEach((kind, number) => {
      if (kind.total === 0) return;
      const label = element('label');
      const box = element('input');
      box.type = 'checkbox';
      box.id = `kind-${number}`;
      box.disabled = !held.has(number);
      box.addEventListener('change', () => {
        if (box.checked) filter.kinds.add(number);
        else filter.kinds.delete(number);
        refresh();
      });
      const here = held.get(number) ?? 0;
      const text = here === kind.total ? count(here) : `${count(here)} of ${count(kind.total)}`;
      label.append(box, ` ${kind.label} `, element('span', text, 'dim'));
      $('#kinds').append(label);
    });
  }

  function onKey(event) {
    const page = Math.max(1, Math.floor(grid.clientHeight / HEIGHT) - 2);
    const to = { ArrowUp: selected - 1, ArrowDown: selected + 1, PageUp: selected - page, PageDown: selected + page,
      Home: 0, End: found.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      select(to);
    } else if (event.key === 'Enter' && selected >= 0) {
      event.preventDefault();
      timeline.show(found[selected]);
      $('#lanes').focus({ preventScroll: true });
    }
  }

  grid.addEventListener('scroll', () => repaint(false));
  grid.addEventListener('keydown', onKey);
  body.addEventListener('click', (event) => {
    const row = event.target.closest('.row');
    if (row) select(Number(row.dataset.at), false);
  });
  $('#search').addEventListener('input', rememberLater(() => {
    filter.words = $('#search').value.toLowerCase().split(/\s+/).filter(Boolean);
    grid.scrollTop = 0;
    refresh();
  }, 80));
  $('#search').addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'Enter') return;
    event.preventDefault();
    grid.focus();
    select(0);
  });
  $('#minor').addEventListener('change', (event) => { filter.minor = event.target.checked; refresh(); });
  $('#cited').addEventListener('change', (event) => { filter.cited = event.target.checked; refresh(); });
  $('#in-window').addEventListener('change', refresh);
  $('#clear').addEventListener('click', clear);
  const later = rememberLater(refresh, 120);
  view.watchers.push(() => { if ($('#in-window').checked) later(); });
  makeKinds();

  return {
    refresh,
    repaint,
    clear,
    ofLanes,
    select: selectEvent,
    /** Goes to the event of a number, if the file has it. */
    goTo(seq) {
      const index = lowerBound(total, (at) => EVENTS.seq[at], seq);
      if (EVENTS.seq[index] !== seq) return false;
      selectEvent(index, true);
      return true;
    },
  };
})();
