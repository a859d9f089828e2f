// The timeline: a lane for each process, drawn as far as it is seen.

const timeline = (() => {
  const box = $('#lanes');
  const paper = box.querySelector('.paper');
  const canvas = $('#lanes-canvas');
  const overview = $('#overview');
  const HEIGHT = 22;
  const HEAD = 64;
  let width = 0;
  let left = 0;

  const right = () => width - 10;
  const xAt = (t) => left + (t - view.from) / (view.to - view.from) * (right() - left);
  const tAt = (x) => view.from + (x - left) / (right() - left) * (view.to - view.from);
  const timeAt = (event) => tAt(event.clientX - box.getBoundingClientRect().left);

  function measure() {
    width = box.clientWidth;
    left = Math.max(110, Math.min(230, width * 0.22));
    paper.style.height = `${HEAD + laneModel.rows.length * HEIGHT + 8}px`;
    repaint();
  }

  function draw() {
    const height = box.clientHeight;
    if (width === 0 || height === 0) return;
    canvas.style.height = `${height}px`;
    const context = contextOf(canvas, width, height);
    const bottom = Math.min(height, HEAD + laneModel.rows.length * HEIGHT - box.scrollTop);
    context.textBaseline = 'alphabetic';
    drawTimes(context, xAt, HEAD - 4, bottom, left, right(), HEAD - 10);
    context.save();
    context.beginPath();
    context.rect(0, HEAD, width, height - HEAD);
    context.clip();
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT));
    const last = Math.min(laneModel.rows.length, first + Math.ceil((height - HEAD) / HEIGHT) + 1);
    for (let at = first; at < last; at += 1) {
      drawRow(context, laneModel.rows[at], at, HEAD + at * HEIGHT - box.scrollTop);
    }
    context.restore();
    drawMoments(context, xAt, HEAD, bottom, left, right(), 3);
    drawChoosing(context, xAt, HEAD, bottom);
    if (laneModel.rows.length === 0) {
      context.fillStyle = PALETTE.dim;
      context.fillText('no process fits', left, HEAD + 20);
    }
    drawOverview();
    const shown = view.isWhole() ? 'whole run' : `${moment(view.from)} to ${moment(view.to)}`;
    const text = `${shown}, ${duration(view.to - view.from)}`;
    if ($('#window').textContent !== text) $('#window').textContent = text;
  }

  function drawRow(context, row, at, top) {
    const middle = top + HEIGHT / 2;
    if (at === laneModel.selected) {
      context.fillStyle = PALETTE.choose;
      context.fillRect(0, top, width, HEIGHT);
    }
    context.save();
    context.beginPath();
    context.rect(left, top, right() - left + 8, HEIGHT);
    context.clip();
    const folded = row.group >= 0;
    for (let lane = row.lane; lane < row.lane + row.count; lane += 1) drawLife(context, lane, middle, folded);
    if (LANES.role[row.lane] === 1) drawSpans(context, middle);
    drawMarks(context, row, middle);
    if (!folded && LANES.exit[row.lane] !== null) {
      drawEnding(context, ending(row.lane)[1], xAt(LANES.exit[row.lane]), middle);
    }
    context.restore();
    drawLabel(context, row, middle);
  }

  function drawLife(context, lane, middle, folded) {
    const born = LANES.born[lane];
    if (born === null) return;
    const exit = LANES.exit[lane];
    const [from, to] = [xAt(born), xAt(exit ?? RANGE[1])];
    context.globalAlpha = folded ? 0.45 : 1;
    if (to >= left && from <= right()) {
      context.fillStyle = PALETTE.life;
      context.fillRect(Math.max(from, left - 2), middle - 5, Math.max(Math.min(to, right() + 8) - Math.max(from, left - 2), 1), 10);
    }
    if (exit !== null) {
      const gone = xAt(LANES.gone[lane] ?? RANGE[1]);
      if (gone - to > 1 && gone >= left && to <= right()) {
        context.globalAlpha = folded ? 0.3 : 0.55;
        context.fillStyle = PALETTE.zombie;
        context.fillRect(Math.max(to, left - 2), middle - 2, Math.min(gone, right() + 8) - Math.max(to, left - 2), 4);
      }
    }
    context.globalAlpha = 1;
  }

  function drawSpans(context, middle) {
    const colours = { stop: PALETTE.warning, step: PALETTE.launcher, bad: PALETTE.bad };
    for (const one of DATA.spans) {
      const [from, to] = [xAt(one.from), xAt(one.to)];
      context.globalAlpha = one.class === 'stop' ? 0.35 : 0.7;
      context.fillStyle = colours[one.class] ?? PALETTE.dim;
      context.fillRect(from, middle - 5, Math.max(to - from, 1.5), 10);
    }
    context.globalAlpha = 1;
  }

  /** One mark for each few pixels: the one that matters most. */
  function drawMarks(context, row, middle) {
    const marks = marksOfRow(row);
    let at = lowerBound(marks.length, (index) => EVENTS.t[marks[index]], tAt(left - 8));
    const end = tAt(right() + 8);
    let best = -1;
    let cell = NaN;
    const flush = () => {
      if (best >= 0) drawMark(context, EVENTS.mark[best], xAt(EVENTS.t[best]), middle);
      best = -1;
    };
    for (; at < marks.length && EVENTS.t[marks[at]] <= end; at += 1) {
      const index = marks[at];
      if (EVENTS.mark[index] === MARK.exit) continue;
      const mine = Math.floor(xAt(EVENTS.t[index]) / 3);
      if (mine !== cell) flush();
      cell = mine;
      if (best < 0 || WEIGHT[EVENTS.mark[index]] > WEIGHT[EVENTS.mark[best]]) best = index;
    }
    flush();
  }

  function drawLabel(context, row, middle) {
    const indent = 8 + Math.min(LANES.depth[row.lane] + (row.group === -2 ? 1 : 0), 8) * 10;
    const foldable = row.group >= 0 || laneModel.hasChildren[row.lane];
    context.fillStyle = PALETTE.dim;
    if (foldable) {
      const open = row.group >= 0 ? laneModel.opened.has(row.group) : !laneModel.folded.has(row.lane);
      const x = indent + 3;
      polygon(context, open ? [[x - 4, middle - 2], [x + 4, middle - 2], [x, middle + 3]]
        : [[x - 2, middle - 4], [x - 2, middle + 4], [x + 3, middle]]);
      context.fill();
    }
    const cited = LANES.cited[row.lane] && row.group < 0;
    context.font = `${cited ? 'bold ' : ''}12px ${PALETTE.mono}`;
    context.fillStyle = LANES.role[row.lane] === 0 ? PALETTE.text : PALETTE.dim;
    context.fillText(fitting(context, laneModel.title(row), left - indent - 18), indent + 11, middle + 4);
  }

  function fitting(context, text, room) {
    const letter = context.measureText('m').width;
    const most = Math.max(3, Math.floor(room / letter));
    return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
  }

  /** How much happened when, and what is shown of it. */
  const density = (() => {
    const cells = new Uint32Array(400);
    for (const t of EVENTS.t) {
      const cell = Math.floor((t - RANGE[0]) / (RANGE[1] - RANGE[0]) * cells.length);
      if (cell >= 0 && cell < cells.length) cells[cell] += 1;
    }
    return cells;
  })();

  function drawOverview() {
    const wide = overview.clientWidth;
    const context = contextOf(overview, wide, 40);
    const x = (t) => left + (t - RANGE[0]) / (RANGE[1] - RANGE[0]) * (right() - left);
    context.fillStyle = PALETTE.dim;
    context.font = `11px ${PALETTE.mono}`;
    context.fillText('events over time', 8, 24);
    const most = Math.max(...density, 1);
    const step = (right() - left) / density.length;
    context.fillStyle = PALETTE.life;
    density.forEach((number, cell) => {
      // By the logarithm: one event next to a storm is seen.
      const tall = number === 0 ? 0 : 4 + 28 * Math.log(1 + number) / Math.log(1 + most);
      context.fillRect(left + cell * step, 38 - tall, Math.max(step, 1), tall);
    });
    for (const one of DATA.moments) {
      context.fillStyle = momentColour(one.class);
      context.fillRect(x(one.t), 0, 1, 40);
    }
    context.fillStyle = PALETTE.accent;
    context.globalAlpha = view.isWhole() ? 0 : 0.22;
    context.fillRect(x(view.from), 0, Math.max(x(view.to) - x(view.from), 2), 40);
    context.globalAlpha = 1;
  }

  const repaint = painter(draw);

  function rowAt(event) {
    const bounds = box.getBoundingClientRect();
    const y = event.clientY - bounds.top;
    if (y < HEAD) return -1;
    const at = Math.floor((y - HEAD + box.scrollTop) / HEIGHT);
    return at < laneModel.rows.length ? at : -1;
  }

  /** The event whose mark is nearest, within some pixels. */
  function markAt(row, x) {
    const marks = marksOfRow(row);
    let best = -1;
    let away = 7;
    const from = lowerBound(marks.length, (index) => EVENTS.t[marks[index]], tAt(x - 7));
    for (let at = from; at < marks.length; at += 1) {
      const distance = Math.abs(xAt(EVENTS.t[marks[at]]) - x);
      if (xAt(EVENTS.t[marks[at]]) > x + 7) break;
      const better = distance < away || (distance < away + 2 && WEIGHT[EVENTS.mark[marks[at]]] > WEIGHT[EVENTS.mark[best] ?? 0]);
      if (better) [best, away] = [marks[at], Math.min(distance, away)];
    }
    return best;
  }

  function describe(row) {
    if (row.group >= 0) return `${laneModel.title(row)}: ${ending(row.lane)[0]}`;
    const { lane } = row;
    const lines = [laneTitle(lane) + (LANES.command[lane] ? `: ${LANES.command[lane]}` : '')];
    if (LANES.born[lane] !== null) {
      const exit = LANES.exit[lane];
      const lived = duration((exit ?? RANGE[1]) - LANES.born[lane]);
      lines.push(`host PID ${LANES.pid[lane]}, from ${moment(LANES.born[lane])}, for ${lived}`);
      if (exit !== null) lines.push(`${moment(exit)} ${ending(lane)[0]}`);
      const gone = LANES.gone[lane];
      if (exit !== null && gone !== null) lines.push(`reaped after ${duration(gone - exit)}`);
      if (exit !== null && gone === null) lines.push('not seen to be reaped');
    }
    if (LANES.hidden[lane] > 0) lines.push(`${count(LANES.hidden[lane])} processes below it have no lane`);
    return lines.join('\n');
  }

  function onHover(event) {
    const x = event.clientX - box.getBoundingClientRect().left;
    const at = rowAt(event);
    if (at < 0) {
      tip.hide();
      return;
    }
    const row = laneModel.rows[at];
    const index = x >= left ? markAt(row, x) : -1;
    if (index >= 0) {
      tip.show(event.clientX, event.clientY, `#${EVENTS.seq[index]}  ${moment(EVENTS.t[index])}\n${EVENTS.text[index]}`);
      return;
    }
    const t = tAt(x);
    const span = LANES.role[row.lane] === 1 && DATA.spans.find((one) => t >= one.from && t <= one.to);
    const when = x >= left ? `\nat ${moment(t)}` : '';
    tip.show(event.clientX, event.clientY, (span ? span.text : describe(row)) + when);
  }

  function onClick(event) {
    const x = event.clientX - box.getBoundingClientRect().left;
    const at = rowAt(event);
    if (at < 0) return;
    const row = laneModel.rows[at];
    select(at);
    const indent = 20 + Math.min(LANES.depth[row.lane], 8) * 10;
    if (x < indent && laneModel.toggle(row)) measure();
    const index = x >= left ? markAt(row, x) : -1;
    if (index >= 0) table.select(index, false);
  }

  function select(at) {
    laneModel.selected = at;
    const row = laneModel.rows[at];
    if (row) $('#lane-status').textContent = describe(row);
    const top = at * HEIGHT;
    const room = box.clientHeight - HEAD;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + HEIGHT > box.scrollTop + room) box.scrollTop = top + HEIGHT - room;
    repaint();
  }

  function onKey(event) {
    const { selected, rows } = laneModel;
    const row = rows[selected];
    switch (event.key) {
      case 'ArrowUp': select(Math.max(0, selected - 1)); break;
      case 'ArrowDown': select(Math.min(rows.length - 1, selected + 1)); break;
      case 'Enter': if (row) table.ofLanes(row.lane, row.count, laneModel.title(row)); break;
      case ' ': if (row && laneModel.toggle(row)) measure(); break;
      default: return;
    }
    event.preventDefault();
  }

  steer(box, 0, timeAt, onHover, onClick);
  box.addEventListener('scroll', () => { tip.hide(); repaint(); });
  box.addEventListener('keydown', onKey);
  const jump = (event) => {
    const bounds = overview.getBoundingClientRect();
    const share = (event.clientX - bounds.left - left) / (right() - left);
    const t = RANGE[0] + share * (RANGE[1] - RANGE[0]);
    const span = view.isWhole() ? (RANGE[1] - RANGE[0]) / 5 : view.to - view.from;
    view.set(t - span / 2, t + span / 2);
  };
  overview.addEventListener('pointerdown', jump);
  overview.addEventListener('pointermove', (event) => { if (event.buttons === 1) jump(event); });
  view.watchers.push(repaint);

  return {
    measure,
    repaint,
    /** Shows an event in its lane. */
    show(index) {
      view.show(EVENTS.t[index]);
      const lane = EVENTS.at[index] >= 0 ? EVENTS.at[index] : EVENTS.lane[index];
      if (lane >= 0) {
        const at = laneModel.reveal(lane);
        measure();
        select(at);
      }
      box.scrollIntoView({ block: 'center' });
    },
    filter(text) {
      laneModel.filter = text;
      laneModel.build();
      box.scrollTop = 0;
      measure();
    },
  };
})();
