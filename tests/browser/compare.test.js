// The compare screen: two seeds, and a graph with a transformer; the first difference is marked.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chosen, drawn, launch, open } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const between = (a, b) => `#/compare?${new URLSearchParams({ a: JSON.stringify(a), b: JSON.stringify(b), run: 1, lang: 'en' })}`;

test('two seeds diverge where their choices first differ', async () => {
  const side = { model: 'english', prompt: 'Once upon a time', tokens: 12, temperature: 1 };
  const { page, clean, close } = await open(browser, between({ ...side, seed: 1 }, { ...side, seed: 2 }));
  await drawn(page, 12, 0);
  await drawn(page, 12, 1);
  await page.waitForSelector('.verdict table');
  const [a, b] = [await chosen(page, 0), await chosen(page, 1)];
  const diverged = a.findIndex((id, at) => id !== b[at]);
  assert.ok(diverged >= 0, 'the seeds draw the same: choose others');
  assert.equal(await page.textContent('.verdict-line'), `First difference at step ${diverged + 1}`);
  assert.equal(await page.getAttribute('.panel[data-panel="1"] .divergence', 'data-step'), String(diverged));
  assert.match(await page.textContent(`.verdict tbody tr:nth-child(${diverged + 1})`), /first difference/);
  // Both panels follow one cursor.
  await page.focus('#main');
  await page.keyboard.press('End');
  await page.waitForFunction(() => document.querySelector('.where').textContent === '12 / 12');
  assert.equal(await page.evaluate(() => new Set([...document.querySelectorAll('.column-mark')].map((mark) => mark.style.transform.split(',')[0])).size), 1);
  await page.click('button:has-text("Swap")');
  await page.waitForFunction((first) => document.querySelector('.panel[data-panel="0"] .candidate.chosen[data-node]') && JSON.stringify([...document.querySelectorAll('.panel[data-panel="0"] .candidate.chosen')].map((cell) => Number(cell.dataset.node))) === first, JSON.stringify(b));
  await clean();
  await close();
});

test('a graph and a transformer are compared by text', async () => {
  const side = { prompt: 'Once upon a time', tokens: 8 };
  const { page, clean, close } = await open(browser, between({ ...side, model: 'english' }, { ...side, model: 'stories260K' }));
  await drawn(page, 8, 0);
  await drawn(page, 8, 1);
  await page.waitForSelector('.verdict table');
  assert.match(await page.textContent('.verdict-line'), /First difference at step \d+|Both paths are equal/);
  assert.equal(await page.locator('.verdict table').nth(0).locator('tbody tr').count(), 8);
  // A graph has no cache; the five layers of the transformer cache the prompt and all new tokens but the last.
  const costs = page.locator('.verdict table').nth(1).locator('tbody tr');
  assert.deepEqual(await costs.nth(0).locator('td').allTextContents(), ['Steps', '8', '8', '1.000']);
  const [, graph, transformer] = await costs.nth(3).locator('td').allTextContents();
  assert.equal(graph, '–');
  assert.ok(Number(transformer.replace(/\D/g, '')) >= 5 * 8);
  await page.focus('#main');
  await page.keyboard.press('l');
  await page.waitForSelector('.pushes.one-sided');
  await clean();
  await close();
});
