// Library: saved traces with their notes; opened, put side by side, merged, taken away.

import { dialog, notice } from '../dialog.js';
import { button, element, put } from '../element.js';
import { count, language, say } from '../language.js';
import { listTraces, merged, openTrace, readFile, removeTrace, saveTrace } from '../shelf.js';

export function library(house, frame) {
  let rows = [];
  const picked = new Set();
  const place = element('div', {});
  const file = element('input', { type: 'file', accept: '.json,.svg,application/json,image/svg+xml', multiple: true, class: 'heard', tabindex: -1, 'aria-label': say('library.file'), onchange: () => takeIn([...file.files]) });
  const sideBySide = button(say('library.beside'), () => beside());
  const merge = button(say('library.merge'), () => join());

  const guarded = (does) => async (...given) => {
    try {
      await does(...given);
    } catch (error) {
      notice(error.message, { error: true });
    }
  };

  const open = guarded(async (name) => {
    house.desk.open(await openTrace(name));
    frame.go('path');
  });
  const remove = guarded(async (name) => {
    if ((await dialog(say('library.delete'), element('p', {}, say('library.delete-sure', { name })), [{ label: say('library.delete'), value: 'yes' }])) !== 'yes') return;
    await removeTrace(name);
    picked.delete(name);
    await refresh();
  });
  const takeIn = guarded(async (files) => {
    const traces = [];
    for (const each of files) traces.push(await readFile(each));
    traces.forEach((trace, at) => house.desk.open(trace, { keep: at > 0 }));
    file.value = '';
    if (traces.length) frame.go('path');
  });
  const beside = guarded(async () => {
    const traces = await Promise.all([...picked].map(openTrace));
    traces.forEach((trace, at) => house.desk.open(trace, { keep: at > 0 }));
    frame.go('path');
  });
  /** Marks of one are laid on the other where both walked the same path; a parted path keeps its own file. */
  const join = guarded(async () => {
    const [first, second] = [...picked];
    const [a, b] = await Promise.all([openTrace(first), openTrace(second)]);
    const same = JSON.stringify(a.tokens.map((token) => token.id)) === JSON.stringify(b.tokens.map((token) => token.id)) && a.model.sha256 === b.model.sha256;
    if (!same) return notice(say('library.merge-differ'), { error: true });
    a.annotations = merged(a.annotations, b.annotations);
    await saveTrace(first, a);
    await refresh();
    notice(say('library.merged', { name: first }));
  });

  function buttons() {
    sideBySide.disabled = picked.size < 1;
    merge.disabled = picked.size !== 2;
  }

  const refresh = guarded(async () => {
    rows = await listTraces();
    const date = new Intl.DateTimeFormat(language() === 'zh' ? 'zh-CN' : 'en', { dateStyle: 'medium', timeStyle: 'short' });
    put(place, rows.length
      ? element('ul', { class: 'shelf' }, rows.map((row) => element('li', { class: 'card shelf-row' },
          element('input', { type: 'checkbox', checked: picked.has(row.name), 'aria-label': say('library.pick', { name: row.name }), onchange: (event) => { event.target.checked ? picked.add(row.name) : picked.delete(row.name); buttons(); } }),
          element('div', { class: 'shelf-text' },
            element('h2', {}, row.title || row.name), element('p', { class: 'soft small' }, row.error ?? [row.model, row.prompt, say('library.steps', { steps: row.steps }), date.format(new Date(row.modified))].filter(Boolean).join(' · ')),
            row.notes ? element('p', { class: 'small' }, row.notes) : null,
            row.pins || row.groups ? element('p', { class: 'soft small' }, say('library.marks', { pins: count(row.pins), groups: count(row.groups) })) : null),
          element('div', { class: 'tools' }, button(say('library.open'), () => open(row.name), { disabled: Boolean(row.error) }), button(say('library.delete'), () => remove(row.name))))))
      : element('p', { class: 'empty card' }, say('library.empty')));
    buttons();
  });
  refresh();

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.library')),
        element('div', { class: 'tools' }, sideBySide, merge, button(say('library.file'), () => file.click()), file, frame.tableButton())),
      place),
    tables: () => [{
      caption: say('screen.library'),
      columns: [{ label: say('library.name') }, { label: say('library.title') }, { label: say('run.model') }, { label: say('run.prompt'), kind: 'wrap' }, { label: say('library.steps-head'), kind: 'number' }, { label: say('inspector.pins'), kind: 'number' }, { label: say('library.changed') }, { label: say('inspector.notes'), kind: 'wrap' }],
      rows: rows.map((row) => [row.name, row.title ?? '', row.model ?? '', row.prompt ?? '', row.steps ?? 0, row.pins ?? 0, row.modified ?? '', row.notes ?? row.error ?? '']),
    }],
    values: () => ({}),
    answer: (action) => action === 'back' && (frame.go('path'), true),
    close() {},
  };
}
