// Path screen: a path step by step, with its forks below.

import { pathView } from '../path_view.js';
import { notice } from '../dialog.js';
import { button, element } from '../element.js';
import { exportDialog } from '../export.js';
import { form } from '../form.js';
import { t } from '../language.js';
import { toAddress } from '../request.js';
import { saveDialog } from '../saved_traces.js';
import { candidatesTable, contributionsTable, stepsTable } from '../path_tables.js';

export function path(app, frame) {
  const { paths } = app;
  const fields = form({ ...app, brief: true, rows: 1, go, name: 'path' });
  fields.write(app.request);
  const names = (panel, at) => (at ? t('panel.fork', { at }) : t('panel.path', { model: panel.trace?.model.name ?? panel.request.model ?? '' }));
  const view = pathView(paths, { names, act: { node: (id) => frame.node(paths.panel.trace.model.name, id) } });

  function go() {
    app.request = { ...fields.read(), interventions: [] };
    if (!app.request.prompt.trim() && !app.request.prompt_ids) return fields.prompt.focus();
    paths.run(app.request);
    frame.address();
    frame.rest();
  }

  const withTrace = (does) => () => (paths.panel?.trace ? does(paths.panel.trace) : notice(t('path.empty')));
  const save = withTrace((trace) => saveDialog(trace));
  const send = withTrace((trace) => exportDialog(trace));

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'card ask-card' }, fields.root, button([t('run.go'), element('kbd', {}, 'Enter')], go, { class: 'primary' })),
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.path')),
        element('div', { class: 'tools' },
          element('span', { class: 'soft small' }, t('path.candidates')),
          button('−', () => paths.show(paths.shown - 2), { 'aria-label': t('key.fewer') }),
          button('+', () => paths.show(paths.shown + 2), { 'aria-label': t('key.more') }),
          button([t('library.save'), element('span', { class: 'key' }, 's')], save),
          button([t('export.title'), element('span', { class: 'key' }, 'e')], send),
          frame.tableButton())),
      view.root),
    tables() {
      if (!paths.panel?.trace) return [];
      const step = paths.current;
      return [
        ...paths.panels.filter((panel) => panel.trace).map((panel) => stepsTable(panel, names(panel, paths.panels.indexOf(panel)))),
        ...(step ? [candidatesTable(step, t('table.candidates', { step: step.index + 1 })), contributionsTable(step, paths.panel.trace, t('table.contributions', { step: step.index + 1 }))] : []),
      ].filter(Boolean);
    },
    focus: () => fields.prompt.focus(),
    values() {
      const forks = paths.panels.slice(1).map((panel) => panel.request.interventions);
      return {
        ...toAddress(paths.panels[0]?.request ?? app.request), step: paths.step ? paths.step + 1 : null, row: paths.row ? paths.row + 1 : null,
        panel: paths.at || null, shown: paths.shown === 8 ? null : paths.shown, forks: forks.length ? JSON.stringify(forks) : null,
      };
    },
    answer(action) {
      if (action === 'save') return save(), true;
      if (action === 'export') return send(), true;
      return view.answer(action);
    },
    close: () => view.close(),
  };
}

