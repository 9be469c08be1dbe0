// Export of traces. The server writes the files, so that they equal those of the command line; PNG is the rendered SVG.

import { file } from './connection.js';
import { dialog, notice } from './dialog.js';
import { element, field } from './element.js';
import { t } from './language.js';
import { effectiveTheme } from './theme.js';

export const FORMATS = ['svg', 'png', 'json', 'graphml', 'gexf', 'dot', 'csv'];

/** Render the SVG of a trace as PNG at twice its size. */
async function paint(svg, theme) {
  const address = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const fine = Math.min(2, 16000 / Math.max(1, image.naturalWidth), 16000 / Math.max(1, image.naturalHeight));
    const canvas = element('canvas', { width: Math.ceil(image.naturalWidth * fine), height: Math.ceil(image.naturalHeight * fine) });
    const pen = canvas.getContext('2d');
    pen.fillStyle = theme === 'dark' ? '#15171b' : '#ffffff';
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(t('export.empty')))), 'image/png'));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** Export a trace in a format, as a blob. */
export async function figure(trace, format, theme) {
  const blob = await file(`api/v1/export/${format === 'png' ? 'svg' : format}`, { theme }, trace);
  return format === 'png' ? paint(await blob.text(), theme) : blob;
}

/** Save a blob as a download. */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 30000);
}

/** The name of a trace's files. */
export const fileName = (trace) =>
  (trace.annotations?.title || trace.text || trace.model.name).trim().slice(0, 40).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '') || 'trace';

/** Ask for format and colours, then save. */
export async function exportDialog(trace) {
  const format = element('select', { autofocus: true }, FORMATS.map((name) => element('option', { value: name }, `.${name}: ${t(`export.${name}`)}`)));
  // The file has a theme of its own: a path looked at in dark colours is often printed in light ones.
  const theme = element('select', {}, ['light', 'dark'].map((name) => element('option', { value: name, selected: name === effectiveTheme() }, t(`theme.${name}`))));
  const answer = await dialog(t('export.title'), element('div', { class: 'fields' }, field(t('export.format'), format), field(t('export.theme'), theme)),
    [{ label: t('export.save'), value: 'save' }]);
  if (answer !== 'save') return;
  try {
    const name = `${fileName(trace)}.${format.value}`;
    download(await figure(trace, format.value, theme.value), name);
    notice(t('export.saved', { name }));
  } catch (error) {
    notice(error.message, { error: true });
  }
}
