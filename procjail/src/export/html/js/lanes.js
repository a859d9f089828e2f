// Which lanes are seen: what is folded, grouped or filtered away is not.

const laneModel = {
  /** Rows: a lane, or a folded group of lanes. */
  rows: [],
  filter: '',
  /** Lanes whose children are hidden; groups that are open. */
  folded: new Set(),
  opened: new Set(),
  hasChildren: new Uint8Array(LANES.pid.length),
  selected: -1,

  build() {
    const rows = [];
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const total = LANES.pid.length;
    let hiddenBelow = -1;
    for (let lane = 0; lane < total; lane += 1) {
      const depth = LANES.depth[lane];
      if (words.length > 0) {
        if (this.matches(lane, words)) rows.push({ lane, count: 1, group: -1 });
        continue;
      }
      if (hiddenBelow >= 0 && depth > hiddenBelow) continue;
      hiddenBelow = this.folded.has(lane) && this.hasChildren[lane] ? depth : -1;
      const group = LANES.group[lane];
      if (group >= 0 && DATA.groups[group][0] === lane) {
        const many = DATA.groups[group][1];
        rows.push({ lane, count: many, group });
        if (!this.opened.has(group)) {
          lane += many - 1;
          continue;
        }
      }
      rows.push({ lane, count: 1, group: group >= 0 ? -2 : -1 });
    }
    this.rows = rows;
    this.selected = Math.min(this.selected, rows.length - 1);
  },

  matches(lane, words) {
    const text = `${laneTitle(lane)} ${LANES.pid[lane]} ${LANES.command[lane]} ${ending(lane)[0]}`.toLowerCase();
    return words.every((word) => text.includes(word));
  },

  /** Folds or unfolds a row; false if there is nothing to fold. */
  toggle(row) {
    const { lane, group } = row;
    const set = group >= 0 ? this.opened : this.folded;
    const key = group >= 0 ? group : lane;
    if (group < 0 && !this.hasChildren[lane]) return false;
    if (!set.delete(key)) set.add(key);
    this.build();
    return true;
  },

  /** The row of a lane, unfolding what hides it. */
  reveal(lane) {
    this.filter = '';
    $('#lane-filter').value = '';
    const group = LANES.group[lane];
    if (group >= 0) this.opened.add(group);
    for (let above = LANES.parent[lane]; above >= 0; above = LANES.parent[above]) this.folded.delete(above);
    this.build();
    return this.rows.findIndex((row) => row.lane === lane && row.group < 0);
  },

  title(row) {
    return row.group >= 0 ? `${LANES.name[row.lane]} × ${count(row.count)}` : laneTitle(row.lane);
  },
};

function ending(lane) {
  return LANES.endings[LANES.ending[lane]];
}

for (const parent of LANES.parent) if (parent >= 0) laneModel.hasChildren[parent] = 1;

/** Positions of the events with a mark, for each lane, by time. */
const marksOf = (() => {
  const lanes = new Map();
  for (let index = 0; index < EVENTS.seq.length; index += 1) {
    const lane = EVENTS.at[index];
    if (lane < 0 || EVENTS.mark[index] === 0) continue;
    const list = lanes.get(lane);
    if (list) list.push(index);
    else lanes.set(lane, [index]);
  }
  return lanes;
})();

const NONE = [];
const groupMarks = new Map();

/** The marks of a row: of a folded group those of all its lanes. */
function marksOfRow(row) {
  if (row.group < 0) return marksOf.get(row.lane) ?? NONE;
  let marks = groupMarks.get(row.group);
  if (marks === undefined) {
    marks = [];
    for (let lane = row.lane; lane < row.lane + row.count; lane += 1) {
      for (const index of marksOf.get(lane) ?? NONE) marks.push(index);
    }
    marks.sort((a, b) => a - b);
    groupMarks.set(row.group, marks);
  }
  return marks;
}
