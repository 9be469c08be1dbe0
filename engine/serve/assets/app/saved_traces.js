// The library of the server: saved traces with their notes, pins and groups.

import { get, RequestError } from './connection.js';
import { dialog, notice } from './dialog.js';
import { element, field } from './element.js';
import { fileName } from './export.js';
import { t } from './language.js';

const address = (name) => `api/v1/library/${encodeURIComponent(name)}`;

async function send(path, options) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: {} }));
  throw new RequestError(answer.status, error.message ?? answer.statusText, error.kind);
}

export const listTraces = () => get('api/v1/library');
export const openTrace = (name) => get(address(name));
export const removeTrace = (name) => send(address(name), { method: 'DELETE' });
export const saveTrace = (name, trace) => send(address(name), { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(trace) });

/** Read an exported file, .json or .svg, as a trace; the server checks it. */
export async function readFile(file) {
  const text = await file.text();
  const type = /\.svg$/i.test(file.name) || text.trimStart().startsWith('<') ? 'image/svg+xml' : 'application/json';
  return (await send('api/v1/import', { method: 'POST', headers: { 'content-type': type }, body: text })).json();
}

/** Merge the pins, groups and notes of two traces, without repetitions. */
export function merged(a, b) {
  const once = (marks) => [...new Map(marks.map((mark) => [`${mark.step}/${mark.node}`, mark])).values()];
  const groups = new Map();
  for (const group of [...a.groups, ...b.groups]) groups.set(group.name, once([...(groups.get(group.name) ?? []), ...group.members]));
  return {
    title: a.title || b.title, notes: [a.notes, b.notes].filter(Boolean).filter((note, at, all) => all.indexOf(note) === at).join('\n\n'),
    pins: once([...a.pins, ...b.pins]), groups: [...groups].map(([name, members]) => ({ name, members })),
  };
}

/** Ask for a name and notes, then save. */
export async function saveDialog(trace) {
  const name = element('input', { type: 'text', required: true, maxlength: 80, value: fileName(trace), autofocus: true });
  const title = element('input', { type: 'text', maxlength: 200, value: trace.annotations.title });
  const notes = element('textarea', { rows: 3, value: trace.annotations.notes });
  const answer = await dialog(t('library.save'), element('div', { class: 'stack' },
    field(t('library.name'), name), field(t('library.title'), title), field(t('inspector.notes'), notes)), [{ label: t('library.save'), value: 'save' }]);
  if (answer !== 'save') return;
  Object.assign(trace.annotations, { title: title.value, notes: notes.value });
  try {
    await saveTrace(name.value.trim(), trace);
    notice(t('library.saved', { name: name.value.trim() }));
  } catch (error) {
    notice(error.message, { error: true });
  }
}
