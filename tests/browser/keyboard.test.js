// The whole page without a pointer: run, select, fork, pin, group, save, export.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { chosen, drawn, launch, open } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('run → fork → pin → group → export by keys alone', async () => {
  const { page, clean, close } = await open(browser, '#/path?lang=en');
  const { keyboard } = page;
  await keyboard.press('r');
  await page.waitForFunction(() => location.hash.startsWith('#/run'));
  await keyboard.press('r');
  await keyboard.type('Once upon a time');
  await keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelectorAll('.chip[data-step]').length === 16);
  await keyboard.press('Escape');
  await keyboard.press('h');
  await drawn(page, 16);
  await keyboard.press('ArrowRight');
  await keyboard.press('ArrowRight');
  await keyboard.press('ArrowDown');
  const cell = page.locator('[role="gridcell"][aria-selected="true"]');
  assert.equal(await cell.getAttribute('aria-colindex'), '2');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('role')), 'gridcell');
  await page.waitForFunction(() => /^Step 3: .* → .*, energy [\d.,]+, /.test(document.querySelector('#announcer').textContent));
  // One tab stop in the grid, however many cells.
  assert.equal(await page.locator('.path-drawing [tabindex="0"]').count(), 1);
  const wanted = Number(await cell.getAttribute('data-node'));
  await keyboard.press('Enter');
  await drawn(page, 16, 1);
  assert.equal((await chosen(page, 1))[2], wanted);
  // The panel is drawn before it has the focus.
  await page.waitForFunction(() => document.activeElement.closest('.panel')?.dataset.panel === '1');
  await keyboard.press('p');
  await page.waitForSelector('.panel[data-panel="1"] .candidate.pinned');
  await keyboard.press('g');
  await page.waitForSelector('dialog[open]');
  await keyboard.type('verbs');
  await keyboard.press('Enter');
  await page.waitForFunction(() => /verbs/.test(document.querySelector('.inspector').textContent));
  await keyboard.press('End');
  await page.waitForFunction(() => document.querySelector('.where').textContent === '16 / 16');
  await keyboard.press('Home');
  await keyboard.press(']');
  await page.waitForFunction(() => document.querySelectorAll('.panel[data-panel="0"] .column[data-step="0"] .candidate').length === 10);
  await keyboard.press('[');
  const wide = Number(await page.getAttribute('.panel[data-panel="0"] svg', 'width'));
  await keyboard.press('-');
  assert.ok(Number(await page.getAttribute('.panel[data-panel="0"] svg', 'width')) < wide);
  await keyboard.press('0');
  await keyboard.press('l');
  await keyboard.press('l');
  await keyboard.press('e');
  await page.waitForSelector('dialog[open]');
  await keyboard.press('ArrowDown');
  await keyboard.press('ArrowDown');
  const download = page.waitForEvent('download');
  // On to the colours, past Cancel, to Save.
  for (const key of ['Tab', 'Tab', 'Tab', 'Enter']) await keyboard.press(key);
  const file = await download;
  assert.match(file.suggestedFilename(), /\.json$/);
  const trace = JSON.parse(await readFile(await file.path(), 'utf8'));
  assert.equal(trace.schema, 'brillm-trace/1');
  assert.deepEqual(trace.annotations.pins, [{ step: 2, node: wanted }]);
  assert.equal(trace.annotations.groups[0].name, 'verbs');
  await keyboard.press('x');
  await page.waitForFunction(() => document.querySelectorAll('.panel').length === 1);
  await keyboard.press('?');
  await page.waitForSelector('dialog[open] kbd');
  await keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('dialog'));
  await clean();
  await close();
});

test('space plays the path, but not with reduced motion', async () => {
  for (const reducedMotion of ['no-preference', 'reduce']) {
    const { page, close } = await open(browser, '#/path?model=english&prompt=Once+upon+a+time&tokens=8&lang=en', { reducedMotion });
    await drawn(page, 8);
    await page.selectOption('.scrubber select', '4');
    await page.focus('#main');
    await page.keyboard.press(' ');
    if (reducedMotion === 'reduce') {
      await page.waitForTimeout(900);
      assert.equal(await page.textContent('.where'), '2 / 8');
    } else await page.waitForFunction(() => document.querySelector('.where').textContent === '8 / 8');
    await close();
  }
});

test('the table sorts and copies by keys', async () => {
  const { page, clean, close } = await open(browser, '#/path?model=english&prompt=Once+upon+a+time&tokens=8&lang=en');
  await drawn(page, 8);
  await page.keyboard.press('t');
  await page.waitForSelector('.tables table');
  await page.locator('.tables th .sort').nth(4).focus();
  await page.keyboard.press('Enter');
  const attribution = await page.$$eval('.tables section:first-child tbody tr', (rows) => rows.map((row) => Number(row.children[4].textContent)));
  assert.deepEqual(attribution, [...attribution].sort((a, b) => a - b));
  assert.equal(await page.locator('.tables th').nth(4).getAttribute('aria-sort'), 'ascending');
  await page.locator('.tables .copy').first().focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /8 rows copied/.test(document.querySelector('#announcer').textContent));
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied.split('\n').length, 9);
  assert.ok(copied.split('\n').every((line) => line.split('\t').length === 10));
  await clean();
  await close();
});
