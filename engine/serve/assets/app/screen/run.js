// Run: the whole form, the text as it comes, the command that does the same.

import { announce } from '../announcer.js';
import { button, element } from '../element.js';
import { form } from '../form.js';
import { say } from '../language.js';
import { command, toAddress } from '../request.js';
import { strip } from '../strip.js';

export function run(house, frame) {
  const { desk } = house;
  const fields = form({ ...house, rows: 4, go, name: 'run' });
  fields.write(house.asked);
  const text = strip(desk);
  const line = element('code', { class: 'command' });
  const state = element('span', { class: 'soft small figure' });
  const stop = button(say('run.stop'), () => desk.stop());

  const written = (request) => command(request, house.modelOf(request.model)?.kind);

  function go() {
    house.asked = fields.read();
    if (!house.asked.prompt.trim() && !house.asked.prompt_ids) return fields.prompt.focus();
    desk.run(house.asked);
    frame.address();
  }

  async function copy() {
    await navigator.clipboard.writeText(line.textContent);
    announce(say('run.copied'));
  }

  function refresh() {
    const lane = desk.lane;
    stop.disabled = lane?.state !== 'running';
    state.textContent = lane ? (lane.state === 'failed' ? lane.error : say(`lane.${lane.state}`, { steps: lane.trace?.steps.length ?? 0 })) : '';
    line.textContent = written(fields.read());
    text.draw();
  }
  const listening = new AbortController();
  for (const name of ['lanes', 'grow']) desk.addEventListener(name, refresh, { signal: listening.signal });
  fields.root.addEventListener('input', () => {
    house.asked = fields.read();
    line.textContent = written(house.asked);
  });
  // A chip leads to its step on the path screen.
  text.root.addEventListener('click', (event) => event.target.closest('[data-step]') && frame.go('path'));
  refresh();

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.run'))),
      element('div', { class: 'card stack' }, fields.root,
        element('div', { class: 'tools' }, button([say('run.go'), element('kbd', {}, 'Enter')], go, { class: 'primary' }), stop, button(say('run.look'), () => frame.go('path')), state)),
      element('section', { class: 'card stack', 'aria-label': say('run.text') }, element('h2', {}, say('run.text')), text.root),
      element('section', { class: 'card stack', 'aria-label': say('run.command') },
        element('div', { class: 'screen-head' }, element('h2', {}, say('run.command')), button(say('run.copy'), copy, { class: 'quiet' })), line)),
    tables: () => [],
    focus: () => fields.prompt.focus(),
    values: () => toAddress(house.asked),
    answer: (action) => action === 'back' && (desk.stop(), true),
    close: () => listening.abort(),
  };
}
