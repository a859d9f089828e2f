// The memory curve: by kind, stacked, or by process; with the limit and the kills.

const memory = (() => {
  const canvas = $('#memory-canvas');
  if (canvas === null) return { measure() {}, repaint() {}, show() {} };
  const DATA_OF = DATA.memory;
  const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3], [5, 5], [12, 4], [3, 6]];
  const TOP = 16;
  const BOTTOM = 232;
  // Without a memory cgroup of its own a jail is charged nothing.
  const isCharged = DATA_OF.usage.some((size) => size > 0);
  let mode = 'kinds';
  let width = 0;
  let left = 0;
  const right = () => width - 10;
  const xAt = (t) => left + (t - view.from) / (view.to - view.from) * (right() - left);
  const most = Math.max(DATA_OF.most, 1) * 1.05;
  const yAt = (size) => BOTTOM - (BOTTOM - TOP) * Math.min(size / most, 1);
  const timeAt = (event) => {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    return view.from + (x - left) / (right() - left) * (view.to - view.from);
  };

  /** What was measured holds until it is measured again: a sample is taken when memory has changed. */
  function line(context, values) {
    context.beginPath();
    DATA_OF.t.forEach((t, at) => {
      if (at === 0) context.moveTo(xAt(t), yAt(values[at]));
      else context.lineTo(xAt(t), yAt(values[at - 1]));
      context.lineTo(xAt(t), yAt(values[at]));
    });
  }

  function drawKinds(context) {
    let below = DATA_OF.t.map(() => 0);
    DATA_OF.kinds.forEach(([, values], colour) => {
      const above = below.map((size, at) => size + values[at]);
      line(context, above);
      for (let at = DATA_OF.t.length - 1; at >= 0; at -= 1) {
        context.lineTo(xAt(DATA_OF.t[at]), yAt(below[at]));
        context.lineTo(xAt(DATA_OF.t[at]), yAt(below[Math.max(at - 1, 0)]));
      }
      context.closePath();
      context.globalAlpha = 0.85;
      context.fillStyle = PALETTE[`c${colour}`];
      context.fill();
      context.globalAlpha = 1;
      below = above;
    });
  }

  function drawProcesses(context) {
    DATA_OF.processes.forEach(([, values], colour) => {
      line(context, values);
      context.strokeStyle = PALETTE[`c${colour}`];
      context.lineWidth = 2;
      context.setLineDash(DASHES[colour] ?? []);
      context.stroke();
    });
    context.setLineDash([]);
  }

  function sizeTicks() {
    let step = 2 ** Math.floor(Math.log2(Math.max(DATA_OF.most / 4, 1)));
    if (DATA_OF.most / step > 6) step *= 2;
    const ticks = [];
    for (let size = 0; size <= DATA_OF.most && ticks.length < 8; size += step) ticks.push(size);
    return ticks;
  }

  function draw() {
    if (width === 0) return;
    const context = contextOf(canvas, width, 260);
    drawTimes(context, xAt, TOP, BOTTOM, left, right(), BOTTOM + 18);
    context.font = `11px ${PALETTE.mono}`;
    context.textAlign = 'right';
    for (const size of sizeTicks()) {
      const y = Math.round(yAt(size)) + 0.5;
      context.strokeStyle = PALETTE.rule;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(right(), y);
      context.stroke();
      context.fillStyle = PALETTE.dim;
      context.fillText(bytes(size), left - 8, y + 4);
    }
    context.textAlign = 'left';
    context.save();
    context.beginPath();
    context.rect(left, 0, right() - left, BOTTOM);
    context.clip();
    if (mode === 'kinds') drawKinds(context);
    else drawProcesses(context);
    if (isCharged) {
      line(context, DATA_OF.usage);
      context.strokeStyle = PALETTE.text;
      context.lineWidth = 1.2;
      context.stroke();
    }
    drawLimit(context);
    drawMoments(context, xAt, TOP, BOTTOM, left, right(), 0);
    for (const [, t] of DATA_OF.kills) drawMark(context, MARK.oomKill, xAt(t), TOP - 4);
    drawChoosing(context, xAt, TOP, BOTTOM);
    context.restore();
  }

  function drawLimit(context) {
    const limit = DATA_OF.limit[DATA_OF.limit.length - 1];
    if (!limit || limit > DATA_OF.most) return;
    const y = yAt(limit);
    context.strokeStyle = PALETTE.bad;
    context.lineWidth = 1.6;
    context.setLineDash([7, 4]);
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(right(), y);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = PALETTE.bad;
    context.fillText(`limit ${bytes(limit)}`, left + 6, y - 4);
  }

  /** What there was at a time, in words: of the last sample before. */
  function describe(t) {
    const at = Math.max(0, lowerBound(DATA_OF.t.length, (index) => DATA_OF.t[index], t + 1) - 1);
    const series = mode === 'kinds' ? DATA_OF.kinds : DATA_OF.processes;
    const charged = isCharged ? `  charged ${bytes(DATA_OF.usage[at])}` : '';
    const lines = [moment(DATA_OF.t[at]) + charged];
    for (const [name, values] of series) if (values[at] > 0) lines.push(`${name}: ${bytes(values[at])}`);
    if (DATA_OF.limit[at]) lines.push(`limit: ${bytes(DATA_OF.limit[at])}`);
    return lines.join('\n');
  }

  function onHover(event) {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    if (x < left) {
      tip.hide();
      return;
    }
    const kill = DATA_OF.kills.find(([, t]) => Math.abs(xAt(t) - x) < 6);
    tip.show(event.clientX, event.clientY, (kill ? `#${kill[0]}  ${kill[2]}\n` : '') + describe(timeAt(event)));
  }

  function show(which) {
    mode = which;
    for (const button of document.querySelectorAll('[data-memory]')) {
      button.setAttribute('aria-pressed', String(button.dataset.memory === which));
    }
    for (const chart of document.querySelectorAll('[data-chart]')) {
      chart.toggleAttribute('data-off', chart.dataset.chart !== which);
    }
    repaint();
  }

  const repaint = painter(draw);
  steer(canvas, 0, timeAt, onHover, () => {});
  view.watchers.push(repaint);
  for (const button of document.querySelectorAll('[data-memory]')) {
    button.disabled = DATA_OF[button.dataset.memory].length === 0;
    button.addEventListener('click', () => show(button.dataset.memory));
  }
  return {
    measure() {
      width = canvas.clientWidth;
      left = Math.max(110, Math.min(230, width * 0.22));
      repaint();
    },
    repaint,
    show,
  };
})();
