// Figures that leave the page: asked of the server, so that they equal the command line's; PNG is the SVG painted.

import { file } from './connection.js';
import { dialog, notice } from './dialog.js';
import { element, field } from './element.js';
import { say } from './language.js';
import { seenTheme } from './theme.js';

export const FORMATS = ['svg', 'png', 'json', 'graphml', 'gexf', 'dot', 'csv'];

/** The SVG of a trace as PNG, twice as fine as on the screen. */
async function painted(svg, theme) {
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
    return await new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(say('export.empty')))), 'image/png'));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** A trace in a format, as a blob. */
export async function figure(trace, format, theme) {
  const blob = await file(`api/v1/export/${format === 'png' ? 'svg' : format}`, { theme }, trace);
  return format === 'png' ? painted(await blob.text(), theme) : blob;
}

/** Hands a blob to the browser as a download. */
export function keep(blob, name) {
  const address = URL.createObjectURL(blob);
  element('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 30000);
}

/** The name a trace's files take. */
export const fileName = (trace) =>
  (trace.annotations?.title || trace.text || trace.model.name).trim().slice(0, 40).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '') || 'trace';

/** Asks for format and colours, then saves. */
export async function exportDialog(trace) {
  const format = element('select', { autofocus: true }, FORMATS.map((name) => element('option', { value: name }, `.${name}: ${say(`export.${name}`)}`)));
  // A dark page is often printed: the colours of the file are chosen apart from the page's.
  const theme = element('select', {}, ['light', 'dark'].map((name) => element('option', { value: name, selected: name === seenTheme() }, say(`theme.${name}`))));
  const answer = await dialog(say('export.title'), element('div', { class: 'fields' }, field(say('export.format'), format), field(say('export.theme'), theme)),
    [{ label: say('export.save'), value: 'save' }]);
  if (answer !== 'save') return;
  try {
    const name = `${fileName(trace)}.${format.value}`;
    keep(await figure(trace, format.value, theme.value), name);
    notice(say('export.saved', { name }));
  } catch (error) {
    notice(error.message, { error: true });
  }
}
