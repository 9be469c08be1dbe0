// A ranked list: a token, a bar, a figure.

import { button, element } from './element.js';
import { shown } from './token.js';

/** Rows `{token, share (0…1), figure, note}`; `press(token)` follows one. */
export function ranking(name, rows, press) {
  return element('ol', { class: 'ranking', 'aria-label': name }, rows.map(({ token, share, figure, note, kind }) => {
    const fill = element('span', { class: `rank-fill ${kind ?? ''}` });
    fill.style.width = `${Math.max(0.5, 100 * Math.min(1, share))}%`;
    return element('li', {}, button([fill, shown(token), element('span', { class: 'soft small rank-note' }, note ?? ''), element('span', { class: 'figure rank-figure' }, figure)], () => press(token), { class: 'rank' }));
  }));
}
