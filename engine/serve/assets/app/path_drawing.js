// The drawing of a path: a column for each step, a row for each candidate, the edges between them. The cells are
// elements with roles, for screen readers, tests and copies of the page.

import { energyColour, scale } from './colour.js';
import { drawing, element } from './element.js';
import { language, number, percent, t } from './language.js';
import { effectiveTheme } from './theme.js';
import { label, shownDrawing } from './token.js';
import { listed, marked, sourceOf, unlisted } from './trace.js';

const PITCH = 154, CELL = 112, ROW = 28, HEIGHT = 23, HEAD = 26, EDGE = 6;

const pen = document.createElement('canvas').getContext('2d');
const widths = new Map();
/** Measure the width of a text at the size of the labels, since ideographs are wide. */
function measure(text) {
  if (!widths.has(text)) {
    pen.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    widths.set(text, pen.measureText(text).width);
  }
  return widths.get(text);
}

const left = (column) => EDGE + column * PITCH;
const top = (row) => HEAD + row * ROW;
const middle = (row) => top(row) + HEIGHT / 2;

/** Format a probability for a cell; the inspector shows it in full. */
function brief(probability) {
  const value = 100 * probability;
  if (value < 0.05) return '<0.1\u2009%';
  return `${number(value, value < 9.95 ? 1 : 0)}\u2009%`;
}

function curve(column, from, row) {
  const [x0, y0, x1, y1] = [left(column - 1) + CELL, middle(from), left(column), middle(row)];
  const bend = (x1 - x0) / 2;
  return `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
}

/**
 * The drawing of one panel. `press(step, row)` is called for a click on a candidate and `enter` for a double click.
 * `grow` draws the new steps, `mark` the selection, `pinned` the pins and groups.
 */
export function pathDrawing(panel, { shown, name, press, enter }) {
  const svg = drawing('svg', { class: 'path-drawing', role: 'grid', 'aria-label': name, 'aria-readonly': 'true' });
  // The marks that follow the keys are layers beside the drawing: moving them repaints none of its thousands of
  // elements.
  const column = element('div', { class: 'column-mark' });
  const ring = element('div', { class: 'ring' });
  const root = element('div', { class: 'panel-body' }, column, svg, ring);
  const body = drawing('g', { role: 'presentation' });
  svg.append(body);
  const columns = [];
  const theme = effectiveTheme();
  let zoom = 1;
  let tallest = 1;
  let tabbed = null;
  let view = null;

  function size() {
    const width = left(columns.length) + CELL + EDGE;
    const height = HEAD + (tallest + 1) * ROW;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('width', width * zoom);
    svg.setAttribute('height', height * zoom);
    move(column, left(0), 2, CELL + 8, height - 4);
    move(ring, 0, 0, CELL + 4, HEIGHT + 4);
    view?.moved();
    svg.setAttribute('aria-rowcount', columns.length);
    svg.setAttribute('aria-colcount', tallest);
  }

  /** Draw the last token of the prompt, where the first step starts. */
  function source() {
    const token = panel.trace.tokens[panel.trace.prompt_tokens - 1];
    if (!token) return;
    body.append(drawing('g', { class: 'candidate given', role: 'presentation', 'aria-hidden': 'true' },
      drawing('text', { class: 'column-head', x: left(0), y: 17 }, t('panel.prompt')),
      drawing('rect', { class: 'cell', x: left(0), y: top(0), width: CELL, height: HEIGHT, rx: 5 }),
      shownDrawing(token, { class: 'cell-label', x: left(0) + 8, y: top(0) + 16 }, CELL - 16, measure)));
  }

  function cell(step, at, candidate, row, from, energy) {
    const chosen = candidate.id === step.chosen;
    const x = left(at + 1), y = top(row);
    const paint = energyColour(energy(candidate.energy), theme);
    const kind = candidate.edge ?? 'score';
    const group = drawing('g', {
      class: `candidate ${kind}${chosen ? ' chosen' : ''}${chosen && step.forced ? ' forced' : ''}`, role: 'gridcell', tabindex: -1,
      'aria-colindex': row + 1, 'aria-selected': 'false', 'data-node': candidate.id,
    }, drawing('title', {}, t(chosen ? 'panel.cell_chosen' : 'panel.cell', {
        token: label(candidate), rank: candidate.rank, energy: number(candidate.energy), percent: percent(candidate.probability),
        edge: candidate.edge ? t(`edge.${candidate.edge}`) : '',
      }).replace(/[,，]\s*$/, '')));
    const line = curve(at + 1, from, row);
    const width = Math.max(chosen ? 3 : 0.8, candidate.probability * 15);
    if (chosen) group.append(drawing('path', { class: 'band', d: line, 'stroke-width': width + 5, 'aria-hidden': 'true' }));
    const edge = drawing('path', { class: 'edge', d: line, 'stroke-width': width });
    edge.style.stroke = paint;
    const energyBar = drawing('rect', { class: 'energy', x, y, width: 4, height: HEIGHT, rx: 2 });
    energyBar.style.fill = paint;
    // The title has everything that is drawn: the drawing itself is hidden from screen readers.
    group.append(drawing('g', { 'aria-hidden': 'true' }, edge,
      candidate.edge === 'own' ? drawing('path', { class: 'core', d: line, 'stroke-width': Math.max(0.8, width * 0.3) }) : '',
      drawing('rect', { class: 'cell', x, y, width: CELL, height: HEIGHT, rx: 5 }),
      drawing('rect', { class: 'bar', x: x + 4, y: y + 1, width: Math.max(0.5, candidate.probability * (CELL - 6)), height: HEIGHT - 2, rx: 3 }),
      energyBar,
      shownDrawing(candidate, { class: 'cell-label', x: x + 9, y: y + 16 }, CELL - 54, measure),
      drawing('text', { class: 'cell-number', x: x + CELL - 5, y: y + 15.5, 'text-anchor': 'end' }, brief(candidate.probability))));
    return group;
  }

  function add(step) {
    const at = columns.length;
    const rows = listed(step, shown);
    const before = columns[at - 1];
    const from = before ? Math.max(0, before.rows.findIndex((candidate) => candidate.id === before.step.chosen)) : 0;
    const energy = scale(rows.map((candidate) => candidate.energy));
    const rest = unlisted(step, rows);
    tallest = Math.max(tallest, rows.length);
    const group = drawing('g', {
      class: 'column', role: 'row', 'aria-rowindex': at + 1, 'data-step': at,
      'aria-label': t('panel.column', { step: at + 1, source: label(sourceOf(panel.trace, step) ?? { id: step.source, display: `#${step.source}` }) }),
    });
    group.append(drawing('text', { class: 'column-head', x: left(at + 1), y: 17, 'aria-hidden': 'true' }, String(at + 1)));
    // The chosen candidate comes last, so that its band covers the thin edges.
    const cells = rows.map((candidate, row) => cell(step, at, candidate, row, from, energy));
    const inOrder = cells.map((node, row) => ({ node, chosen: rows[row].id === step.chosen }));
    group.append(...inOrder.filter((entry) => !entry.chosen).map((entry) => entry.node), ...inOrder.filter((entry) => entry.chosen).map((entry) => entry.node));
    if (rest.count > 0) group.append(drawing('text', { class: 'rest', x: left(at + 1) + 4, y: top(rows.length) + 15, 'aria-hidden': 'true' },
      t('panel.rest', { count: new Intl.NumberFormat(language(), { notation: 'compact' }).format(rest.count), percent: percent(rest.probability) })));
    body.append(group);
    columns.push({ step, rows, cells, group });
  }

  function move(mark, x, y, width, height) {
    if (width) {
      mark.style.width = `${width * zoom}px`;
      mark.style.height = `${height * zoom}px`;
    }
    mark.style.transform = `translate(${x * zoom}px, ${y * zoom}px)`;
  }

  const cellOf = (event) => {
    const found = event.target.closest('[role="gridcell"]');
    if (!found) return null;
    const step = Number(found.parentNode.dataset.step);
    return { step, row: columns[step].cells.indexOf(found) };
  };
  svg.addEventListener('click', (event) => {
    const found = cellOf(event);
    if (found) press(found.step, found.row);
  });
  svg.addEventListener('dblclick', (event) => {
    const found = cellOf(event);
    if (found) enter(found.step, found.row);
  });

  let selection = null;
  view = {
    root,
    svg,
    columns,
    grow() {
      if (!panel.trace) return;
      if (!body.firstChild) source();
      for (const step of panel.trace.steps.slice(columns.length)) add(step);
      size();
    },
    /** Mark the selection. Only what changed is touched, since a held key calls this thirty times a second. */
    mark(step, row, active) {
      selection = { step, row, active };
      view.moved();
      const cell = columns[step]?.cells[row];
      const next = active ? cell : columns[step]?.cells[0];
      if (tabbed === next) return;
      tabbed?.setAttribute('tabindex', -1);
      tabbed?.setAttribute('aria-selected', 'false');
      tabbed = next ?? null;
      tabbed?.setAttribute('tabindex', 0);
      if (active) tabbed?.setAttribute('aria-selected', 'true');
    },
    /** Move the marks to the selection. */
    moved() {
      if (!selection) return;
      const shown = columns[selection.step];
      root.classList.toggle('active', selection.active);
      column.style.visibility = shown ? 'visible' : 'hidden';
      ring.style.visibility = shown?.cells[selection.row] && selection.active ? 'visible' : 'hidden';
      move(column, left(selection.step + 1) - 4, 2);
      move(ring, left(selection.step + 1) - 2, top(selection.row) - 2);
    },
    focus: () => tabbed?.focus({ preventScroll: true }),
    pinned(annotations) {
      for (const { step, rows, cells } of columns) {
        rows.forEach((candidate, row) => {
          const pin = marked(annotations.pins, step.index, candidate.id);
          const group = annotations.groups.findIndex((each) => marked(each.members, step.index, candidate.id));
          cells[row].classList.toggle('pinned', pin);
          cells[row].querySelector('.pin-mark')?.remove();
          if (!pin && group < 0) return;
          const sign = `${pin ? '◆' : ''}${group >= 0 ? String.fromCharCode(65 + (group % 26)) : ''}`;
          cells[row].append(drawing('text', { class: 'pin-mark', x: left(step.index + 1) + CELL - 2, y: top(row) + 4, 'text-anchor': 'end', 'aria-hidden': 'true' }, sign));
        });
      }
    },
    /** Draw a dashed line where this path diverges from another. */
    markDivergence(step) {
      svg.querySelector('.divergence')?.remove();
      if (step === null || !columns[step]) return;
      const x = left(step + 1) - 14;
      svg.append(drawing('g', { class: 'divergence', 'data-step': step, 'aria-hidden': 'true' },
        drawing('line', { x1: x, x2: x, y1: 4, y2: HEAD + (tallest + 1) * ROW - 6 }),
        drawing('path', { d: `M${x - 6} 2h12l-6 9z` })));
    },
    zoom(factor) {
      zoom = factor;
      size();
    },
    /** The horizontal range of a step, in pixels from the left of the drawing. */
    span: (step) => ({ left: (left(step + 1) - 24) * zoom, right: (left(step + 1) + CELL + 24) * zoom }),
  };
  view.grow();
  return view;
}
