// Tables: sortable rows, copied as tab-separated values.

import { button, element, put } from './element.js';
import { t } from './language.js';
import { announce } from './announcer.js';

const plain = (cell) => (cell && typeof cell === 'object' && 'text' in cell ? cell.text : cell);
const order = (cell) => {
  const value = cell && typeof cell === 'object' && 'sort' in cell ? cell.sort : plain(cell);
  return value ?? '';
};

function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

/** Write rows as tab-separated text; tabs and line ends inside a cell become signs, which keeps the columns aligned. */
export function separated({ columns, rows }) {
  const clean = (cell) =>
    String(plain(cell) ?? '').replaceAll('\t', '⇥').replace(/\r?\n/g, '↵');
  return [columns.map((column) => clean(column.label)), ...rows.map((row) => row.map(clean))]
    .map((cells) => cells.join('\t'))
    .join('\n');
}

/**
 * A table: `{caption, columns: [{label, kind}], rows: [[cell]]}`. A cell is a value or `{text, sort, show}`: the text
 * that is copied, the value that is sorted by, and what is shown.
 */
export function table(content) {
  const { caption, columns } = content;
  let rows = content.rows;
  let sorted = { column: -1, down: false };
  const body = element('tbody');
  const heads = columns.map((column, at) =>
    element('th', { scope: 'col', class: column.kind },
      button(element('span', {}, column.label), () => sort(at), { class: 'sort' })));

  function fill() {
    put(body, ...rows.map((row) =>
      element('tr', {}, row.map((cell, at) => element('td', { class: columns[at].kind },
        (cell && typeof cell === 'object' && cell.show?.()) || String(plain(cell) ?? ''))))));
  }

  function sort(at) {
    sorted = { column: at, down: sorted.column === at ? !sorted.down : false };
    const sign = sorted.down ? -1 : 1;
    rows = [...rows].sort((a, b) => sign * compare(order(a[at]), order(b[at])));
    heads.forEach((head, index) => {
      if (index === at) head.setAttribute('aria-sort', sorted.down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    fill();
    announce(t('table.sorted', { column: columns[at].label }));
  }

  async function copy() {
    await navigator.clipboard.writeText(separated({ columns, rows }));
    announce(t('table.copied', { rows: rows.length }));
  }

  fill();
  return element('section', { class: 'table-card' },
    element('div', { class: 'table-head' },
      element('h3', {}, caption),
      button(t('table.copy'), copy, { class: 'quiet copy' })),
    // The region scrolls, so it takes the focus: keys must be able to scroll it.
    element('div', { class: 'table-scroll', tabindex: 0, role: 'region', 'aria-label': caption },
      element('table', {}, element('thead', {}, element('tr', {}, heads)), body)));
}
