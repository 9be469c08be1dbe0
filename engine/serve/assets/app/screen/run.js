// Run screen: all fields of a request, the text as it is generated, and the equivalent command line.

import { announce } from '../announcer.js';
import { button, element } from '../element.js';
import { form } from '../form.js';
import { t } from '../language.js';
import { command, toAddress } from '../request.js';
import { pathText } from '../path_text.js';

export function run(app, frame) {
  const { paths } = app;
  const fields = form({ ...app, rows: 4, go, name: 'run' });
  fields.write(app.request);
  const text = pathText(paths);
  const line = element('code', { class: 'command' });
  const state = element('span', { class: 'soft small figure' });
  const stop = button(t('run.stop'), () => paths.stop());

  const written = (request) => command(request, app.modelOf(request.model)?.kind);

  function go() {
    app.request = fields.read();
    if (!app.request.prompt.trim() && !app.request.prompt_ids) return fields.prompt.focus();
    paths.run(app.request);
    frame.address();
  }

  async function copy() {
    await navigator.clipboard.writeText(line.textContent);
    announce(t('run.copied'));
  }

  function refresh() {
    const panel = paths.panel;
    stop.disabled = panel?.state !== 'running';
    state.textContent = panel ? (panel.state === 'failed' ? panel.error : t(`panel.${panel.state}`, { steps: panel.trace?.steps.length ?? 0 })) : '';
    line.textContent = written(fields.read());
    text.draw();
  }
  const listening = new AbortController();
  for (const name of ['panels', 'grow']) paths.addEventListener(name, refresh, { signal: listening.signal });
  fields.root.addEventListener('input', () => {
    app.request = fields.read();
    line.textContent = written(app.request);
  });
  // A chip selects its step on the path screen.
  text.root.addEventListener('click', (event) => event.target.closest('[data-step]') && frame.go('path'));
  refresh();

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.run'))),
      element('div', { class: 'card stack' }, fields.root,
        element('div', { class: 'tools' }, button([t('run.go'), element('kbd', {}, 'Enter')], go, { class: 'primary' }), stop, button(t('run.open_path'), () => frame.go('path')), state)),
      element('section', { class: 'card stack', 'aria-label': t('run.text') }, element('h2', {}, t('run.text')), text.root),
      element('section', { class: 'card stack', 'aria-label': t('run.command') },
        element('div', { class: 'screen-head' }, element('h2', {}, t('run.command')), button(t('run.copy'), copy, { class: 'quiet' })), line)),
    tables: () => [],
    focus: () => fields.prompt.focus(),
    values: () => toAddress(app.request),
    answer: (action) => action === 'back' && (paths.stop(), true),
    close: () => listening.abort(),
  };
}
