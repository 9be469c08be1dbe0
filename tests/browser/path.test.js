// The path screen: it draws what the command line prints; what-if paths diverge at their step.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chosen, cli, drawn, launch, open, pathOf, press } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('the drawing has the steps and the choices that the command line prints', async () => {
  const printed = JSON.parse(await cli('trace', 'Once upon a time', '--model', 'models/english.bril', '--tokens', '12', '--temperature', '0.8', '--seed', '7', '--json'));
  const { page, clean, close } = await open(browser, pathOf({ temperature: 0.8, seed: 7 }));
  await drawn(page, 12);
  assert.deepEqual(await chosen(page), printed.steps.map((step) => step.chosen));
  const first = await page.$$eval('.panel[data-panel="0"] .column[data-step="0"] .candidate', (cells) => cells.map((cell) => Number(cell.dataset.node)).sort((a, b) => a - b));
  const ranked = [...printed.steps[0].candidates].sort((a, b) => a.rank - b.rank).slice(0, 8).map((candidate) => candidate.id);
  const expected = new Set([...ranked, printed.steps[0].chosen]);
  assert.deepEqual(first, [...expected].sort((a, b) => a - b));
  await clean();
  await close();
});

const figures = (page, list) => page.$$eval(`${list} .push-value`, (cells) => cells.map((cell) => Number(cell.textContent.replace(/[^0-9.-]/g, ''))));
const total = (values) => values.reduce((sum, value) => sum + value, 0);

test('the contributions add up to the norm of the pre-activation', async () => {
  const { page, clean, close } = await open(browser, pathOf({ step: 6 }));
  await drawn(page, 12);
  await page.waitForSelector('.pushes li');
  const values = await figures(page, '.pushes[aria-label="Contributions"]');
  const norm = Number(/([\d.]+),/.exec(await page.textContent('.inspector .stack p.soft.small'))[1]);
  // Each bar is rounded to two decimals.
  assert.ok(Math.abs(total(values) - norm) <= 0.006 * values.length, `${total(values)} is not ${norm}`);
  await page.waitForSelector('.chip .underline');
  await clean();
  await close();
});

test('the inspector says why the choice is ahead of another candidate', async () => {
  const { page, clean, close } = await open(browser, pathOf({ step: 4 }));
  await drawn(page, 12);
  const margins = [];
  // Of the chosen candidate over the next likeliest, then over a third.
  for (const column of [1, 3]) {
    await press(page, 0, 4, `[aria-colindex="${column}"]`);
    const other = await page.locator(`.panel[data-panel="0"] .column[data-step="4"] .candidate[aria-colindex="${Math.max(2, column)}"]`).getAttribute('data-node');
    await page.waitForFunction((seen) => document.querySelector('.margin p')?.textContent.match(/[\d.]+ nat/) && document.querySelector('.margin p').textContent !== seen, margins.at(-1)?.text);
    const text = await page.textContent('.margin p');
    const margin = Number(/([\d.]+) nat/.exec(text)[1]);
    const values = await figures(page, '.margin .pushes');
    assert.ok(Math.abs(total(values) - margin) <= 0.006 * values.length, `${total(values)} is not ${margin}, over ${other}`);
    margins.push({ text, margin });
  }
  assert.ok(margins[1].margin > margins[0].margin);
  await clean();
  await close();
});

test('forcing a candidate adds a panel that diverges at its step', async () => {
  const { page, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  const before = await chosen(page);
  const second = page.locator('.panel[data-panel="0"] .column[data-step="4"] .candidate[aria-colindex="2"]');
  const wanted = Number(await second.getAttribute('data-node'));
  await press(page, 0, 4, '[aria-colindex="2"]');
  await page.click('.inspector button.primary');
  await drawn(page, 12, 1);
  const forked = await chosen(page, 1);
  assert.deepEqual(forked.slice(0, 4), before.slice(0, 4));
  assert.equal(forked[4], wanted);
  assert.notEqual(before[4], wanted);
  await page.waitForSelector('.panel[data-panel="1"] .divergence[data-step="4"]');
  assert.match(await page.textContent('.panel[data-panel="1"] .panel-head'), /forced at step 5/);
  await page.waitForFunction(() => location.hash.includes('forks='));
  // Reloading the address restores both.
  await page.reload();
  await drawn(page, 12, 1);
  assert.deepEqual(await chosen(page, 1), forked);
  await clean();
  await close();
});

test('muting an edge, muting a node, scaling and adding energy change the path', async () => {
  const { page, clean, close } = await open(browser, pathOf({ step: 3 }));
  await drawn(page, 12);
  const [, , third] = await chosen(page);
  const change = async (name, panel) => {
    await press(page, 0, 2, '.chosen');
    if (!(await page.$('.changes[open]'))) await page.click('.changes summary');
    await page.click(`.changes button:has-text("${name}")`);
    await drawn(page, 12, panel);
    return chosen(page, panel);
  };
  assert.notEqual((await change('Mute edge', 1))[2], third);
  assert.ok(!(await change('Mute node', 2)).includes(third));
  await press(page, 0, 2, '.chosen');
  await page.fill('.changes input[aria-label="Factor"]', '0.001');
  await page.click('.changes button:has-text("Scale edge")');
  await drawn(page, 12, 3);
  assert.notEqual((await chosen(page, 3))[2], third);
  const other = page.locator('.panel[data-panel="0"] .column[data-step="2"] .candidate[aria-colindex="5"]');
  const wanted = Number(await other.getAttribute('data-node'));
  await press(page, 0, 2, '[aria-colindex="5"]');
  if (!(await page.$('.changes[open]'))) await page.click('.changes summary');
  await page.fill('.changes input[aria-label="Energy to add"]', '500');
  await page.click('.changes button:has-text("Add energy here")');
  await drawn(page, 12, 4);
  assert.equal((await chosen(page, 4))[2], wanted);
  // Without an earlier token's signal.
  await press(page, 0, 2, '.chosen');
  await page.waitForSelector('.push button');
  await page.locator('.push button').first().click();
  await drawn(page, 12, 5);
  assert.match(await page.textContent('.panel[data-panel="5"] .panel-head'), /without token/);
  await clean();
  await close();
});

test('a transformer shows attention and no edges', async () => {
  const { page, clean, close } = await open(browser, pathOf({ model: 'stories260K', tokens: 6 }));
  await drawn(page, 6);
  const printed = JSON.parse(await cli('trace', 'Once upon a time', '--model', 'models/stories260K', '--tokens', '6', '--json'));
  assert.deepEqual(await chosen(page), printed.steps.map((step) => step.chosen));
  await page.waitForSelector('.pushes.one-sided li');
  assert.match(await page.textContent('.inspector'), /The cache keeps \d+ of \d+ tokens/);
  await clean();
  await close();
});

test('an error of the server is shown', async () => {
  const { page, close } = await open(browser);
  await page.route('**/api/v1/trace', (route) => route.continue({ postData: JSON.stringify({ prompt: 'x', tokens: 99999999 }) }));
  await page.fill('.ask textarea', 'x');
  await page.press('.ask textarea', 'Enter');
  await page.waitForSelector('.panel-head .failed');
  assert.ok((await page.textContent('.panel-head .failed')).length > 10);
  await close();
});
