// The path as text: a chip a token, the prompt's given, the new ones leading to their steps. The share of each in the
// choice looked at underlines it, so that "which earlier word pushed this" is seen in the text itself.

import { element, put } from './element.js';
import { say } from './language.js';
import { label, row, shown } from './token.js';

const MOST = 320;

/** The chips of a desk's lane. */
export function strip(desk) {
  const list = element('div', { class: 'strip', role: 'group', 'aria-label': say('strip.title') });
  let chips = [];
  let drawn = null;
  let length = 0;

  list.addEventListener('click', (event) => {
    const chip = event.target.closest('[data-step]');
    if (chip) desk.select({ step: Number(chip.dataset.step) });
  });

  function draw() {
    const trace = desk.lane?.trace;
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
    if (skipped) nodes.unshift(element('span', { class: 'soft' }, say('strip.skipped', { count: skipped })));
    put(list, ...nodes);
    share(pushed);
    mark();
  }

  let marked = null;
  let pushed = null;
  function mark() {
    const trace = desk.lane?.trace;
    if (trace !== drawn || (trace?.tokens.length ?? 0) !== length) return draw();
    marked?.removeAttribute('aria-current');
    marked?.setAttribute('tabindex', -1);
    marked = trace ? chips[trace.prompt_tokens + desk.step] ?? null : null;
    marked?.setAttribute('aria-current', 'step');
    marked?.setAttribute('tabindex', 0);
  }

  /** Underlines by share; the map holds −1…1 by position. */
  function share(attribution) {
    pushed = attribution;
    chips.forEach((chip, position) => {
      chip.querySelector('.share')?.remove();
      const value = attribution?.get(position);
      if (!value || Math.abs(value) < 0.02) return;
      const line = element('span', { class: `share ${value < 0 ? 'pull' : ''}` });
      line.style.height = `${Math.max(1, Math.round(7 * Math.abs(value)))}px`;
      chip.append(line);
    });
  }
  return { root: list, draw, mark, share };
}
