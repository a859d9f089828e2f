// What the page knows, and how it tells times and sizes.

const $ = (selector) => document.querySelector(selector);
const DATA = JSON.parse($('#data').textContent);
const EVENTS = DATA.events;
const LANES = DATA.lanes;
const MINOR = 0;
const CITED = new Set(EVENTS.cited);

/** An element with text: never markup, as texts are those of the traced program. */
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** As `+12.345ms`. */
function moment(ns) {
  const sign = ns < 0 ? '-' : '+';
  const size = Math.abs(ns);
  if (size < 1e9) return `${sign}${Math.floor(size / 1e6)}.${pad(Math.floor(size / 1e3) % 1000, 3)}ms`;
  return `${sign}${Math.floor(size / 1e9)}.${pad(Math.floor(size / 1e3) % 1e6, 6)}s`;
}

function pad(number, digits) {
  return String(number).padStart(digits, '0');
}

/** As `2026-11-22T07:29:28.081234Z`. */
function utc(ns) {
  const [seconds, rest] = DATA.gate_unix;
  const whole = Math.floor((rest + ns) / 1e9);
  const micros = Math.floor((rest + ns - whole * 1e9) / 1e3);
  const date = new Date((seconds + whole) * 1000);
  if (Number.isNaN(date.getTime())) return '';
  return date.toISOString().replace(/\.\d+Z$/, `.${pad(micros, 6)}Z`);
}

/** As `1.2 ms`: cut, not rounded, as in the tables. */
function duration(ns) {
  const size = Math.floor(Math.abs(ns));
  if (size < 1e3) return `${size} ns`;
  if (size < 1e6) return `${Math.floor(size / 1e3)} µs`;
  if (size < 1e7) return `${Math.floor(size / 1e6)}.${Math.floor(size / 1e5) % 10} ms`;
  if (size < 1e9) return `${Math.floor(size / 1e6)} ms`;
  if (size < 60e9) return `${Math.floor(size / 1e9)}.${pad(Math.floor(size / 1e6) % 1000, 3)} s`;
  if (size < 3600e9) return `${Math.floor(size / 60e9)} min ${Math.floor(size / 1e9) % 60} s`;
  return `${Math.floor(size / 3600e9)} h ${Math.floor(size / 60e9) % 60} min`;
}

/** As `31.2 MiB`. */
function bytes(size) {
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  if (size < 1024) return `${size} B`;
  let value = size / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** 1, 2 or 5 times a power of ten. */
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 10 * power;
}

/** Round times in a stretch, at most about `most`. */
function timeTicks(from, to, most) {
  const step = roundStep((to - from) / most);
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to && ticks.length < 50; at += step) {
    // Enough digits to tell neighbours apart.
    const digits = Math.max(3, Math.ceil(Math.log10(Math.abs(at) / step + 1)) + 1);
    const unit = [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']].find(([size]) => Math.abs(at) >= size);
    const text = unit === undefined ? '0' : `${Number((at / unit[0]).toPrecision(digits))} ${unit[1]}`;
    ticks.push([at, text]);
  }
  return ticks;
}

/** What a process is called: `1 nginx`. */
function laneTitle(lane) {
  const name = LANES.name[lane];
  const pid = LANES.jail_pid[lane];
  if (pid > 0) return `${pid} ${name}`;
  const role = ['', ' (launcher)', ' (outside)'][LANES.role[lane]];
  return LANES.role[lane] === 1 ? `${name}${role}` : `${name} ${LANES.pid[lane]}${role}`;
}

function rememberLater(action, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
}

/** First position in an ascending list whose value is at least that. */
function lowerBound(length, valueAt, value) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueAt(middle) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
