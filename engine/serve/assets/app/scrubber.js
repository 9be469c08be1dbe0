// The scrubber: a slider over the entropy and the margin of each step, and playback.

import { button, drawing, element, put } from './element.js';
import { t } from './language.js';
import { reducedMotion } from './theme.js';

const HEIGHT = 34;

function line(values, most, steps) {
  return values.map((value, at) => `${at ? 'L' : 'M'}${(steps > 1 ? at / (steps - 1) : 0.5) * 1000} ${HEIGHT - 3 - ((value ?? 0) / most) * (HEIGHT - 6)}`).join('');
}

/** The scrubber of a path set; `stop` ends playback when the screen is left. */
export function scrubber(paths) {
  let timer = null;
  const slider = element('input', { type: 'range', min: 1, max: 1, step: 1, value: 1, 'aria-label': t('scrubber.step'), oninput: () => paths.select({ step: Number(slider.value) - 1 }) });
  const spark = drawing('svg', { class: 'spark', viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const cursor = drawing('line', { class: 'spark-cursor', y1: 0, y2: HEIGHT });
  const play = button('▶', () => toggle(), { class: 'play', 'aria-label': t('scrubber.play'), 'aria-pressed': 'false' });
  const speed = element('select', { 'aria-label': t('scrubber.speed') },
    [0.5, 1, 2, 4].map((factor) => element('option', { value: factor, selected: factor === 1 }, `×${factor}`)));
  const where = element('span', { class: 'soft figure where' });

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = '▶';
    play.setAttribute('aria-pressed', 'false');
  }

  function toggle() {
    const steps = paths.panel?.trace?.steps.length ?? 0;
    if (timer || !steps) return stop();
    // With reduced motion, a press moves one step.
    if (reducedMotion()) return paths.select({ step: (paths.step + 1) % steps });
    if (paths.step >= steps - 1) paths.select({ step: 0 });
    play.textContent = '❚❚';
    play.setAttribute('aria-pressed', 'true');
    timer = setInterval(() => {
      if (paths.step >= (paths.panel?.trace?.steps.length ?? 0) - 1) stop();
      else paths.select({ step: paths.step + 1 });
    }, 700 / Number(speed.value));
  }

  return {
    root: element('div', { class: 'scrubber' }, play, speed,
      element('div', { class: 'scrub-track' }, spark, slider),
      element('div', { class: 'scrub-end' }, where,
        element('span', { class: 'legend' }, element('span', { class: 'key-line entropy' }), t('step.entropy')),
        element('span', { class: 'legend' }, element('span', { class: 'key-line margin' }), t('step.margin')))),
    toggle,
    stop,
    draw() {
      const steps = paths.panel?.trace?.steps ?? [];
      slider.max = Math.max(1, steps.length);
      slider.disabled = !steps.length;
      const entropies = steps.map((step) => step.entropy), margins = steps.map((step) => step.margin);
      const most = Math.max(1e-9, ...entropies, ...margins.filter((value) => value !== null));
      const path = line(entropies, most, steps.length);
      put(spark, 
        drawing('path', { class: 'spark-area', d: path ? `${path}L1000 ${HEIGHT}L0 ${HEIGHT}Z` : '' }),
        drawing('path', { class: 'spark-entropy', d: path }),
        drawing('path', { class: 'spark-margin', d: line(margins, most, steps.length) }), cursor);
      this.mark();
    },
    mark() {
      const steps = paths.panel?.trace?.steps.length ?? 0;
      slider.value = paths.step + 1;
      slider.setAttribute('aria-valuetext', t('scrubber.of', { step: paths.step + 1, steps }));
      where.textContent = steps ? `${paths.step + 1} / ${steps}` : '';
      const x = steps > 1 ? (paths.step / (steps - 1)) * 1000 : 500;
      cursor.setAttribute('x1', x);
      cursor.setAttribute('x2', x);
    },
  };
}
