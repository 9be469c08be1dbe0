// Export in every format; an exported image opens again.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';
import { chosen, colours, drawn, launch, open, pathOf, root } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

async function exported(page, format, theme) {
  await page.focus('#main');
  await page.keyboard.press('e');
  await page.waitForSelector('dialog[open]');
  const [formats, themes] = await page.$$('dialog select');
  await formats.selectOption(format);
  if (theme) await themes.selectOption(theme);
  const download = page.waitForEvent('download');
  await page.click('dialog button.primary');
  const file = await download;
  assert.ok(file.suggestedFilename().endsWith(`.${format}`));
  await page.waitForFunction(() => !document.querySelector('dialog'));
  return file.path();
}

const python = (code, path) => execFileSync('python3', ['-c', code, path], { encoding: 'utf8' }).trim();

test('svg, png, json, graphml, gexf, dot and csv are valid', async () => {
  const { page, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  await page.keyboard.press('p');

  const json = JSON.parse(await readFile(await exported(page, 'json'), 'utf8'));
  const schema = JSON.parse(await readFile(`${root}engine/run/trace/brillm-trace-1.schema.json`, 'utf8'));
  const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);
  assert.ok(validate(json), JSON.stringify(validate.errors));
  assert.equal(json.steps.length, 12);
  assert.equal(json.annotations.pins.length, 1);

  const svg = await readFile(await exported(page, 'svg', 'dark'), 'utf8');
  const parsed = await page.evaluate((text) => {
    const tree = new DOMParser().parseFromString(text, 'image/svg+xml');
    return { broken: Boolean(tree.querySelector('parsererror')), schema: JSON.parse(tree.querySelector('metadata').textContent).schema };
  }, svg);
  assert.deepEqual(parsed, { broken: false, schema: 'brillm-trace/1' });
  const light = await readFile(await exported(page, 'svg', 'light'), 'utf8');
  assert.notEqual(light, svg, 'both themes gave the same file');

  const png = await readFile(await exported(page, 'png', 'light'));
  assert.equal(png.subarray(1, 4).toString(), 'PNG');
  assert.ok((await colours(page, png)) > 20, 'the image is blank');

  for (const format of ['graphml', 'gexf']) {
    const path = await exported(page, format);
    const size = python(`import sys, networkx; print(networkx.read_${format}(sys.argv[1]).number_of_nodes())`, path);
    assert.ok(Number(size) >= 12, `${format}: ${size} nodes`);
  }

  const drawnByDot = execFileSync('dot', ['-Tsvg', await exported(page, 'dot')], { encoding: 'utf8', maxBuffer: 1 << 26 });
  assert.match(drawnByDot, /<svg/);

  const rows = python('import csv, sys; rows = list(csv.reader(open(sys.argv[1], encoding="utf8"))); print(len(rows), len(set(map(len, rows))))', await exported(page, 'csv'));
  const [lines, widths] = rows.split(' ').map(Number);
  assert.ok(lines > 12 && widths === 1, rows);
  await clean();
  await close();
});

test('an exported image opens again as the same path, with its pins', async () => {
  const { page, clean, close } = await open(browser, pathOf({ temperature: 0.9, seed: 3 }));
  await drawn(page, 12);
  await page.keyboard.press('p');
  const before = await chosen(page);
  const path = await exported(page, 'svg');
  await page.click('#screens a[data-screen="library"]');
  await page.setInputFiles('input[type="file"]', { name: 'figure.svg', mimeType: 'image/svg+xml', buffer: await readFile(path) });
  await drawn(page, 12);
  assert.deepEqual(await chosen(page), before);
  await page.waitForSelector('.candidate.pinned');
  await clean();
  await close();
});
