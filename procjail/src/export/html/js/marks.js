// How things look in a canvas: shapes tell as much as colours.

const MARK = { exec: 1, signal: 2, ignored: 3, oomKill: 4, launcher: 5, kill: 6, exit: 7, warning: 8, other: 9 };
// Where marks would lie on each other, the one that matters most is seen.
const WEIGHT = [0, 2, 4, 5, 9, 3, 9, 0, 6, 1];

function polygon(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.closePath();
}

/** An event in its lane, whose middle is `y`. */
function drawMark(context, mark, x, y) {
  context.lineWidth = 1.5;
  switch (mark) {
    case MARK.exec:
      context.fillStyle = PALETTE.text;
      context.fillRect(x - 0.75, y - 6, 1.5, 12);
      break;
    case MARK.signal:
    case MARK.ignored:
      polygon(context, [[x, y], [x - 4, y - 8], [x + 4, y - 8]]);
      context.fillStyle = mark === MARK.signal ? PALETTE.c5 : PALETTE.paper;
      context.strokeStyle = PALETTE.c5;
      context.fill();
      context.stroke();
      break;
    case MARK.oomKill:
    case MARK.kill:
      polygon(context, [[x, y - 7], [x + 6, y], [x, y + 7], [x - 6, y]]);
      context.fillStyle = PALETTE.bad;
      context.strokeStyle = PALETTE.paper;
      context.fill();
      context.stroke();
      break;
    case MARK.launcher:
      context.fillStyle = PALETTE.launcher;
      context.fillRect(x - 1, y - 5, 2, 10);
      break;
    case MARK.warning:
      polygon(context, [[x, y - 4], [x + 4, y + 4], [x - 4, y + 4]]);
      context.fillStyle = PALETTE.warning;
      context.fill();
      break;
    default:
      context.fillStyle = PALETTE.dim;
      context.beginPath();
      context.arc(x, y, 2, 0, 7);
      context.fill();
  }
}

/** The end of a process: a dot for 0, a square for another code, a cross for a signal. */
function drawEnding(context, tone, x, y) {
  if (tone === 'bad') {
    context.strokeStyle = PALETTE.bad;
    context.lineWidth = 2.4;
    context.beginPath();
    context.moveTo(x - 4.5, y - 4.5);
    context.lineTo(x + 4.5, y + 4.5);
    context.moveTo(x + 4.5, y - 4.5);
    context.lineTo(x - 4.5, y + 4.5);
    context.stroke();
  } else if (tone === 'warning') {
    context.fillStyle = PALETTE.warning;
    context.fillRect(x - 3.5, y - 3.5, 7, 7);
  } else {
    context.fillStyle = PALETTE.dim;
    context.beginPath();
    context.arc(x, y, 3, 0, 7);
    context.fill();
  }
}

function momentColour(kind) {
  return { kill: PALETTE.bad, end: PALETTE.bad, stop: PALETTE.warning }[kind] ?? PALETTE.dim;
}

/** Instants of the whole jail as lines; their labels where there is room. */
function drawMoments(context, xAt, top, bottom, left, right, rows) {
  const ends = Array.from({ length: rows }, () => []);
  context.font = `11px ${PALETTE.mono}`;
  for (const one of DATA.moments) {
    const x = xAt(one.t);
    if (x < left || x > right) continue;
    context.strokeStyle = momentColour(one.class);
    context.lineWidth = 1;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, rows > 0 ? 2 : top);
    context.lineTo(Math.round(x) + 0.5, bottom);
    context.stroke();
    context.setLineDash([]);
    if (rows === 0) continue;
    const width = context.measureText(one.text).width;
    const atEnd = x + width + 8 > right;
    const span = atEnd ? [x - width - 8, x] : [x, x + width + 8];
    const row = ends.findIndex((taken) => taken.every(([from, to]) => span[1] < from || span[0] > to));
    if (row < 0) continue;
    ends[row].push(span);
    context.textAlign = atEnd ? 'right' : 'left';
    context.strokeStyle = PALETTE.paper;
    context.lineWidth = 4;
    context.lineJoin = 'round';
    context.strokeText(one.text, atEnd ? x - 4 : x + 4, 12 + row * 14);
    context.fillStyle = momentColour(one.class);
    context.fillText(one.text, atEnd ? x - 4 : x + 4, 12 + row * 14);
  }
  context.textAlign = 'left';
}

/** The axis of times. */
function drawTimes(context, xAt, top, bottom, left, right, labelY) {
  context.font = `11px ${PALETTE.mono}`;
  context.textAlign = 'center';
  for (const [at, text] of timeTicks(view.from, view.to, Math.max(2, (right - left) / 110))) {
    const x = Math.round(xAt(at)) + 0.5;
    context.strokeStyle = PALETTE.rule;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.stroke();
    context.fillStyle = PALETTE.dim;
    context.fillText(text, Math.min(Math.max(x, left + 20), right - 20), labelY);
  }
  context.textAlign = 'left';
}

function drawChoosing(context, xAt, top, bottom) {
  if (!view.choosing) return;
  const [from, to] = view.choosing.map(xAt);
  context.globalAlpha = 0.25;
  context.fillStyle = PALETTE.accent;
  context.fillRect(from, top, to - from, bottom - top);
  context.globalAlpha = 1;
}
