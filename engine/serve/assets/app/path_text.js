// The path as text: a chip for each token; chips of new tokens select their step. The contribution of each token to the
// selected candidate underlines its chip.

import { element, put } from './element.js';
import { t } from './language.js';
import { label, row, shown } from './token.js';

const MOST = 320;

/** The chips of the selected panel. */
export function pathText(paths) {
  const list = element('div', { class: 'path-text', role: 'group', 'aria-label': t('text.title') });
  let chips = [];
  let drawn = null;
  let length = 0;

  list.addEventListener('click', (event) => {
    const chip = event.target.closest('[data-step]');
    if (chip) paths.select({ step: Number(chip.dataset.step) });
  });

  function draw() {
    const trace = paths.panel?.trace;
    drawn = trace;
    length = trace?.tokens.length ?? 0;
    chips = [];
    if (!trace) return put(list);
    const skipped = Math.max(0, length - MOST);
    const nodes = row(trace.tokens.slice(skipped), (token, offset) => {
      const position = skipped + offset;
      const step = position - trace.prompt_tokens;
      const given = step < 0;
      const chip = element(given ? 'span' : 'button', {
        type: given ? null : 'button', class: `chip ${given ? 'given' : ''} ${!given && trace.steps[step]?.forced ? 'forced' : ''}`.trim(),
        'data-step': given ? null : step, tabindex: given ? null : -1, title: `${position + 1}: ${label(token)}`,
      }, shown(token));
      chips[position] = chip;
      return chip;
    });
    if (skipped) nodes.unshift(element('span', { class: 'soft' }, t('text.skipped', { count: skipped })));
    put(list, ...nodes);
    underline(shownAttribution);
    mark();
  }

  let marked = null;
  let shownAttribution = null;
  function mark() {
    const trace = paths.panel?.trace;
    if (trace !== drawn || (trace?.tokens.length ?? 0) !== length) return draw();
    marked?.removeAttribute('aria-current');
    marked?.setAttribute('tabindex', -1);
    marked = trace ? chips[trace.prompt_tokens + paths.step] ?? null : null;
    marked?.setAttribute('aria-current', 'step');
    marked?.setAttribute('tabindex', 0);
  }

  /** Underline the chips by their contribution, a map from position to −1…1. */
  function underline(attribution) {
    shownAttribution = attribution;
    chips.forEach((chip, position) => {
      chip.querySelector('.underline')?.remove();
      const value = attribution?.get(position);
      if (!value || Math.abs(value) < 0.02) return;
      const line = element('span', { class: `underline ${value < 0 ? 'pull' : ''}` });
      line.style.height = `${Math.max(1, Math.round(7 * Math.abs(value)))}px`;
      chip.append(line);
    });
  }
  return { root: list, draw, mark, underline };
}
