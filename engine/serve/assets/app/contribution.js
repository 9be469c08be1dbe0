// Which earlier token pushed a choice, as bars that add up: the pre-activation of an edge splits exactly into the
// signals of the earlier tokens and a few terms of their own. A transformer shows its attention here instead.

import { button, element } from './element.js';
import { number, percent, say } from './language.js';
import { shown } from './token.js';

const SHOWN = 10;

/** The entries by size, the small ones summed into one: the bars still add up. */
export function arranged(contributions) {
  const tokens = contributions.entries.filter((entry) => entry.kind === 'token');
  const others = contributions.entries.filter((entry) => entry.kind !== 'token');
  const sorted = [...tokens].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const top = sorted.slice(0, SHOWN);
  const small = sorted.slice(SHOWN);
  if (small.length) top.push({ kind: 'others', count: small.length, value: small.reduce((sum, entry) => sum + entry.value, 0) });
  return [...top, ...others];
}

/** The share of each position of the path, −1…1 of the largest; the chips are underlined with it. */
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

/** Bars of a graph's contributions. `without(position)` forks the path without that token's signal. */
export function contributionBars(contributions, trace, without) {
  const entries = arranged(contributions);
  const most = Math.max(1e-12, ...entries.map((entry) => Math.abs(entry.value)));
  return element('div', { class: 'stack' },
    element('ul', { class: 'pushes', 'aria-label': say('contribution.title') }, entries.map((entry) => {
      if (entry.kind !== 'token')
        return bar(say(`contribution.${entry.kind}`, { count: entry.count }), entry.value, most);
      const token = trace.tokens[entry.position] ?? { id: entry.id, text: null, bytes_hex: '', display: `#${entry.id}` };
      return bar([element('span', { class: 'soft small figure' }, `${entry.position + 1}\u2002`), shown(token)], entry.value, most,
        button('⊘', () => without(entry.position), { class: 'quiet tiny', title: say('contribution.without'), 'aria-label': `${say('contribution.without')} ${entry.position + 1}` }));
    })),
    element('p', { class: 'soft small' }, say('contribution.sum', { norm: number(contributions.norm) })));
}

/** Bars of one layer's attention over the earlier tokens; what the cache no longer keeps is said. */
export function attentionBars(step, trace, layer, choose) {
  const weights = step.attention[layer]?.weights ?? [];
  const kept = weights.map((weight, position) => ({ weight, position })).filter((entry) => entry.weight !== null);
  const top = kept.sort((a, b) => b.weight - a.weight).slice(0, SHOWN);
  const most = Math.max(1e-12, ...top.map((entry) => entry.weight));
  const picker = element('select', { onchange: (event) => choose(Number(event.target.value)) },
    step.attention.map((each, at) => element('option', { value: at, selected: at === layer }, String(each.layer + 1))));
  return element('div', { class: 'stack' },
    element('label', { class: 'check' }, say('attention.layer'), picker),
    element('ul', { class: 'pushes one-sided', 'aria-label': say('attention.title') }, top.map(({ weight, position }) => {
      const fill = element('span', { class: 'push-fill' });
      fill.style.width = `${(100 * weight) / most}%`;
      fill.style.left = '0';
      return element('li', { class: 'push' },
        element('span', { class: 'push-name' }, element('span', { class: 'soft small figure' }, `${position + 1}\u2002`), trace.tokens[position] ? shown(trace.tokens[position]) : ''),
        element('span', { class: 'push-track', 'aria-hidden': 'true' }, fill),
        element('span', { class: 'push-value figure' }, percent(weight)), element('span'));
    })),
    step.cache ? element('p', { class: 'soft small' }, say('attention.cache', { kept: step.cache[layer], all: step.position })) : null);
}
