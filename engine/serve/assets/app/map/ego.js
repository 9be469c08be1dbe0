// The neighbours of one node as SVG: incoming edges on the left, outgoing ones on the right. It needs no WebGL.

import { drawing } from '../element.js';
import { percent, t } from '../language.js';
import { label, shownDrawing } from '../token.js';

const WIDE = 900, CELL = 150, ROW = 30, HEIGHT = 24;
const measure = (text) => [...text].reduce((sum, character) => sum + (character.codePointAt(0) > 0x2e7f ? 14 : 7.6), 0);

/** Draw the neighbours; `press(id)` is called for a click. `out` and `into` are lists of edges of the server. */
export function ego(facts, out, into, press) {
  const rows = Math.max(out.edges.length, into.edges.length, 1);
  const height = 40 + rows * ROW;
  const centre = { x: (WIDE - CELL) / 2, y: 30 + (rows * ROW) / 2 - HEIGHT / 2 };
  const svg = drawing('svg', { class: 'ego', viewBox: `0 0 ${WIDE} ${height}`, role: 'group', 'aria-label': t('map.ego', { token: label(facts) }) });
  const top = (at, count) => 34 + ((rows - count) / 2 + at) * ROW;

  function cell(token, x, y, extra = {}) {
    const { note = '', ...attributes } = extra;
    const group = drawing('g', { class: 'candidate', ...attributes },
      drawing('rect', { class: 'cell', x, y, width: CELL, height: HEIGHT, rx: 5 }),
      shownDrawing(token, { class: 'cell-label', x: x + 9, y: y + 16.5 }, CELL - 60, measure),
      drawing('text', { class: 'cell-number', x: x + CELL - 6, y: y + 16, 'text-anchor': 'end' }, note));
    return group;
  }

  function side(edges, x, name, outward) {
    svg.append(drawing('text', { class: 'column-head', x: x + CELL / 2, y: 18, 'text-anchor': 'middle' }, name));
    edges.forEach((edge, at) => {
      const y = top(at, edges.length);
      const [x0, y0, x1, y1] = outward ? [centre.x + CELL, centre.y + HEIGHT / 2, x, y + HEIGHT / 2] : [x + CELL, y + HEIGHT / 2, centre.x, centre.y + HEIGHT / 2];
      const bend = (x1 - x0) / 2;
      svg.append(drawing('path', { class: `edge plain ${edge.edge}`, d: `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`, 'stroke-width': Math.max(1, edge.probability * 14) }));
      const go = () => press(edge.token.id);
      svg.append(cell(edge.token, x, y, {
        note: percent(edge.probability), role: 'button', tabindex: 0, 'aria-label': `${label(edge.token)}, ${percent(edge.probability)}`, onclick: go,
        onkeydown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); go(); } },
      }));
    });
  }
  side(into.edges, 10, t('node.into'), false);
  side(out.edges, WIDE - CELL - 10, t('node.static'), true);
  svg.append(cell(facts, centre.x, centre.y, { class: 'candidate chosen', note: '' }));
  return svg;
}
