// A ranked list: a token, a bar and a figure in each row.

import { button, element } from './element.js';
import { shown } from './token.js';

/** Rows are `{token, fraction (0…1), figure, note}`; `press(token)` is called for a click. */
export function ranking(name, rows, press) {
  return element('ol', { class: 'ranking', 'aria-label': name }, rows.map(({ token, fraction, figure, note, kind }) => {
    const fill = element('span', { class: `rank-fill ${kind ?? ''}` });
    fill.style.width = `${Math.max(0.5, 100 * Math.min(1, fraction))}%`;
    return element('li', {}, button([fill, shown(token), element('span', { class: 'soft small rank-note' }, note ?? ''), element('span', { class: 'figure rank-figure' }, figure)], () => press(token), { class: 'rank' }));
  }));
}
