// The stretch of time that timeline and memory show, and the colours of canvases.

const RANGE = DATA.range;

const view = {
  from: RANGE[0],
  to: RANGE[1],
  watchers: [],

  /** Shows a stretch, as far as it lies in the run and is not shorter than a microsecond. */
  set(from, to) {
    const whole = RANGE[1] - RANGE[0];
    const span = Math.min(Math.max(to - from, 1e3), whole);
    const middle = (from + to) / 2;
    let start = to - from === span ? from : middle - span / 2;
    start = Math.min(Math.max(start, RANGE[0]), RANGE[1] - span);
    this.from = start;
    this.to = start + span;
    this.changed();
  },

  /** Zooms by a factor; `at` stays where it is. */
  zoom(factor, at = (this.from + this.to) / 2) {
    this.set(at - (at - this.from) * factor, at + (this.to - at) * factor);
  },

  /** Moves by a share of what is shown. */
  pan(share) {
    const step = (this.to - this.from) * share;
    this.set(this.from + step, this.to + step);
  },

  fit() {
    this.set(RANGE[0], RANGE[1]);
  },

  isWhole() {
    return this.from === RANGE[0] && this.to === RANGE[1];
  },

  /** Brings an instant into sight. */
  show(t) {
    if (t >= this.from && t <= this.to) return;
    const span = this.to - this.from;
    this.set(t - span / 2, t + span / 2);
  },

  changed() {
    for (const watcher of this.watchers) watcher();
  },
};

/** Calls `draw` once before the next picture, however often it is asked for. */
function painter(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** A canvas's context for so many CSS pixels. */
function contextOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// Canvases don't know the style's variables.
const PALETTE = {};
const COLOURS = ['paper', 'raised', 'text', 'dim', 'rule', 'accent', 'bad', 'warning', 'launcher', 'life', 'zombie',
  'choose', 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'];

function readPalette() {
  const probe = element('span');
  document.body.append(probe);
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    PALETTE[name] = getComputedStyle(probe).color;
  }
  PALETTE.mono = getComputedStyle(document.documentElement).getPropertyValue('--mono');
  probe.remove();
}

const tip = {
  box: $('#tip'),
  show(x, y, text) {
    this.box.textContent = text;
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const left = x + 14 + width > innerWidth ? x - width - 10 : x + 14;
    const top = y + 18 + height > innerHeight ? y - height - 10 : y + 18;
    this.box.style.left = `${Math.max(left, 4)}px`;
    this.box.style.top = `${Math.max(top, 4)}px`;
  },
  hide() {
    this.box.hidden = true;
  },
};

/** Moves, zooms and chooses with the mouse, in a plot whose times begin at `left`. */
function steer(target, left, timeAt, onHover, onClick) {
  let drag = null;
  target.addEventListener('wheel', (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      view.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), timeAt(event));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      view.pan((event.deltaX || event.deltaY) / 800);
    }
  }, { passive: false });
  target.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const bounds = target.getBoundingClientRect();
    // The scroll bar.
    if (event.clientX - bounds.left > target.clientWidth) return;
    drag = { x: event.clientX, at: timeAt(event), from: view.from, to: view.to, moved: false, choose: event.shiftKey,
      width: bounds.width - left };
  });
  addEventListener('pointermove', (event) => {
    if (drag === null) return;
    if (!drag.moved && Math.abs(event.clientX - drag.x) < 4) return;
    drag.moved = true;
    tip.hide();
    target.classList.add('dragging');
    if (drag.choose) {
      view.choosing = [drag.at, timeAt(event)].sort((a, b) => a - b);
      view.changed();
    } else {
      const shift = (drag.x - event.clientX) / drag.width * (drag.to - drag.from);
      view.set(drag.from + shift, drag.to + shift);
    }
  });
  addEventListener('pointerup', (event) => {
    if (drag === null) return;
    const { moved } = drag;
    drag = null;
    target.classList.remove('dragging');
    const { choosing } = view;
    view.choosing = null;
    if (moved && choosing) view.set(choosing[0], choosing[1]);
    else if (!moved) onClick(event);
  });
  target.addEventListener('pointermove', (event) => {
    if (drag === null || !drag.moved) onHover(event);
  });
  target.addEventListener('pointerleave', () => tip.hide());
  target.addEventListener('dblclick', (event) => view.zoom(event.shiftKey ? 2 : 0.4, timeAt(event)));
}
