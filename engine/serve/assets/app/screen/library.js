// Library screen: open, compare, merge and delete saved traces.

import { dialog, notice } from '../dialog.js';
import { button, element, put } from '../element.js';
import { count, language, t } from '../language.js';
import { listTraces, merged, openTrace, readFile, removeTrace, saveTrace } from '../saved_traces.js';

export function library(app, frame) {
  let rows = [];
  const picked = new Set();
  const container = element('div', {});
  const file = element('input', { type: 'file', accept: '.json,.svg,application/json,image/svg+xml', multiple: true, class: 'visually-hidden', tabindex: -1, 'aria-label': t('library.file'), onchange: () => importFiles([...file.files]) });
  const sideBySide = button(t('library.open_together'), () => openTogether());
  const merge = button(t('library.merge'), () => mergeMarks());

  const guarded = (does) => async (...given) => {
    try {
      await does(...given);
    } catch (error) {
      notice(error.message, { error: true });
    }
  };

  const open = guarded(async (name) => {
    app.paths.open(await openTrace(name));
    frame.go('path');
  });
  const remove = guarded(async (name) => {
    if ((await dialog(t('library.delete'), element('p', {}, t('library.delete_confirm', { name })), [{ label: t('library.delete'), value: 'yes' }])) !== 'yes') return;
    await removeTrace(name);
    picked.delete(name);
    await refresh();
  });
  const importFiles = guarded(async (files) => {
    const traces = [];
    for (const each of files) traces.push(await readFile(each));
    traces.forEach((trace, at) => app.paths.open(trace, { keep: at > 0 }));
    file.value = '';
    if (traces.length) frame.go('path');
  });
  const openTogether = guarded(async () => {
    const traces = await Promise.all([...picked].map(openTrace));
    traces.forEach((trace, at) => app.paths.open(trace, { keep: at > 0 }));
    frame.go('path');
  });
  /** Merge the marks of two traces of the same path; traces of different paths are not merged. */
  const mergeMarks = guarded(async () => {
    const [first, second] = [...picked];
    const [a, b] = await Promise.all([openTrace(first), openTrace(second)]);
    const same = JSON.stringify(a.tokens.map((token) => token.id)) === JSON.stringify(b.tokens.map((token) => token.id)) && a.model.sha256 === b.model.sha256;
    if (!same) return notice(t('library.merge_differ'), { error: true });
    a.annotations = merged(a.annotations, b.annotations);
    await saveTrace(first, a);
    await refresh();
    notice(t('library.merged', { name: first }));
  });

  function buttons() {
    sideBySide.disabled = picked.size < 1;
    merge.disabled = picked.size !== 2;
  }

  const refresh = guarded(async () => {
    rows = await listTraces();
    const date = new Intl.DateTimeFormat(language() === 'zh' ? 'zh-CN' : 'en', { dateStyle: 'medium', timeStyle: 'short' });
    put(container, rows.length
      ? element('ul', { class: 'saved-list' }, rows.map((row) => element('li', { class: 'card saved-row' },
          element('input', { type: 'checkbox', checked: picked.has(row.name), 'aria-label': t('library.pick', { name: row.name }), onchange: (event) => { event.target.checked ? picked.add(row.name) : picked.delete(row.name); buttons(); } }),
          element('div', { class: 'saved-text' },
            element('h2', {}, row.title || row.name), element('p', { class: 'soft small' }, row.error ?? [row.model, row.prompt, t('library.steps', { steps: row.steps }), date.format(new Date(row.modified))].filter(Boolean).join(' · ')),
            row.notes ? element('p', { class: 'small' }, row.notes) : null,
            row.pins || row.groups ? element('p', { class: 'soft small' }, t('library.marks', { pins: count(row.pins), groups: count(row.groups) })) : null),
          element('div', { class: 'tools' }, button(t('library.open'), () => open(row.name), { disabled: Boolean(row.error) }), button(t('library.delete'), () => remove(row.name))))))
      : element('p', { class: 'empty card' }, t('library.empty')));
    buttons();
  });
  refresh();

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.library')),
        element('div', { class: 'tools' }, sideBySide, merge, button(t('library.file'), () => file.click()), file, frame.tableButton())),
      container),
    tables: () => [{
      caption: t('screen.library'),
      columns: [{ label: t('library.name') }, { label: t('library.title') }, { label: t('run.model') }, { label: t('run.prompt'), kind: 'wrap' }, { label: t('library.steps_head'), kind: 'number' }, { label: t('inspector.pins'), kind: 'number' }, { label: t('library.changed') }, { label: t('inspector.notes'), kind: 'wrap' }],
      rows: rows.map((row) => [row.name, row.title ?? '', row.model ?? '', row.prompt ?? '', row.steps ?? 0, row.pins ?? 0, row.modified ?? '', row.notes ?? row.error ?? '']),
    }],
    values: () => ({}),
    answer: (action) => action === 'back' && (frame.go('path'), true),
    close() {},
  };
}
