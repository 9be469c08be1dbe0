// What contributed to a choice, as bars that add up: the pre-activation of an edge is the sum of the signals of the
// earlier tokens and a few other terms. For a transformer: its attention.

import { button, element } from './element.js';
import { number, percent, t } from './language.js';
import { shown } from './token.js';

const SHOWN = 10;

/** Sort the entries by size and sum the small ones into one, so that the bars still add up. */
export function arranged(contributions) {
  const tokens = contributions.entries.filter((entry) => entry.kind === 'token');
  const others = contributions.entries.filter((entry) => entry.kind !== 'token');
  const sorted = [...tokens].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const top = sorted.slice(0, SHOWN);
  const small = sorted.slice(SHOWN);
  if (small.length) top.push({ kind: 'others', count: small.length, value: small.reduce((sum, entry) => sum + entry.value, 0) });
  return [...top, ...others];
}

/** The contribution of each position relative to the largest, −1…1. */
export function attribution(contributions) {
  const found = new Map();
  const most = Math.max(1e-12, ...contributions.entries.map((entry) => Math.abs(entry.value)));
  for (const entry of contributions.entries)
    if (entry.kind === 'token') found.set(entry.position, entry.value / most);
  return found;
}

function bar(name, value, most, extra) {
  const fill = element('span', { class: `push-fill ${value < 0 ? 'pull' : ''}` });
  const width = (50 * Math.abs(value)) / most;
  fill.style.width = `${width}%`;
  fill.style.left = value < 0 ? `${50 - width}%` : '50%';
  return element('li', { class: 'push' }, element('span', { class: 'push-name' }, name),
    element('span', { class: 'push-track', 'aria-hidden': 'true' }, fill),
    element('span', { class: 'push-value figure' }, number(value)), extra ?? element('span'));
}

/** Bars of a graph's contributions. `without(position)` forks the path without the signal of that token. */
export function contributionBars(contributions, trace, without) {
  const entries = arranged(contributions);
  const most = Math.max(1e-12, ...entries.map((entry) => Math.abs(entry.value)));
  return element('div', { class: 'stack' },
    element('ul', { class: 'pushes', 'aria-label': t('contribution.title') }, entries.map((entry) => {
      if (entry.kind !== 'token')
        return bar(t(`contribution.${entry.kind}`, { count: entry.count }), entry.value, most);
      const token = trace.tokens[entry.position] ?? { id: entry.id, text: null, bytes_hex: '', display: `#${entry.id}` };
      return bar([element('span', { class: 'soft small figure' }, `${entry.position + 1}\u2002`), shown(token)], entry.value, most,
        button('⊘', () => without(entry.position), { class: 'quiet tiny', title: t('contribution.without'), 'aria-label': `${t('contribution.without')} ${entry.position + 1}` }));
    })),
    element('p', { class: 'soft small' }, t('contribution.sum', { norm: number(contributions.norm) })));
}

/** Bars of what makes the margin of one token over another. */
export function marginBars(explanation, trace) {
  const entries = arranged({ entries: explanation.terms });
  const most = Math.max(1e-12, ...entries.map((entry) => Math.abs(entry.value)));
  return element('div', { class: 'stack margin' },
    element('ul', { class: 'pushes', 'aria-label': t('margin.title') }, entries.map((entry) => {
      if (entry.kind !== 'token') return bar(t(`contribution.${entry.kind}`, { count: entry.count }), entry.value, most);
      const token = trace.tokens[entry.position] ?? { id: entry.id, text: null, bytes_hex: '', display: `#${entry.id}` };
      return bar([element('span', { class: 'soft small figure' }, `${entry.position + 1}\u2002`), shown(token)], entry.value, most);
    })),
    element('p', { class: 'soft small' }, t(explanation.exact ? 'margin.sum' : 'margin.approximate', { margin: number(explanation.margin, 3) })));
}

/** Bars of the attention of one layer over the earlier tokens, without those that were evicted from the cache. */
export function attentionBars(step, trace, layer, choose) {
  const weights = step.attention[layer]?.weights ?? [];
  const kept = weights.map((weight, position) => ({ weight, position })).filter((entry) => entry.weight !== null);
  const top = kept.sort((a, b) => b.weight - a.weight).slice(0, SHOWN);
  const most = Math.max(1e-12, ...top.map((entry) => entry.weight));
  const picker = element('select', { onchange: (event) => choose(Number(event.target.value)) },
    step.attention.map((each, at) => element('option', { value: at, selected: at === layer }, String(each.layer + 1))));
  return element('div', { class: 'stack' },
    element('label', { class: 'check' }, t('attention.layer'), picker),
    element('ul', { class: 'pushes one-sided', 'aria-label': t('attention.title') }, top.map(({ weight, position }) => {
      const fill = element('span', { class: 'push-fill' });
      fill.style.width = `${(100 * weight) / most}%`;
      fill.style.left = '0';
      return element('li', { class: 'push' },
        element('span', { class: 'push-name' }, element('span', { class: 'soft small figure' }, `${position + 1}\u2002`), trace.tokens[position] ? shown(trace.tokens[position]) : ''),
        element('span', { class: 'push-track', 'aria-hidden': 'true' }, fill),
        element('span', { class: 'push-value figure' }, percent(weight)), element('span'));
    })),
    step.cache ? element('p', { class: 'soft small' }, t('attention.cache', { kept: step.cache[layer], all: step.position })) : null);
}
