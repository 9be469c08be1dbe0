// Accessibility: axe finds nothing serious on any screen, in both themes; the path is a grid.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { drawn, launch, open, pathOf, press } from './browser.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

async function check(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.slice(0, 200)}`).join(' | ')}`);
  });
  assert.deepEqual(found, [], where);
}

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing serious, ${colorScheme}`, async () => {
    const { page, clean, close } = await open(browser, pathOf({ step: 3 }), { colorScheme });
    await drawn(page, 12);
    await press(page, 0, 2, '[aria-colindex="3"]');
    await page.click('.inspector button.primary');
    await drawn(page, 12, 1);
    await page.click('.changes summary');
    await page.waitForSelector('.pushes li');
    await check(page, 'path');
    await page.focus('#main');
    await page.keyboard.press('t');
    await check(page, 'path, table');
    await page.keyboard.press('t');
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open]');
    await check(page, 'help');
    await page.keyboard.press('Escape');
    await page.keyboard.press('e');
    await page.waitForSelector('dialog[open]');
    await check(page, 'export');
    await page.keyboard.press('Escape');
    for (const name of ['run', 'node', 'map', 'compare', 'plugins', 'library']) {
      await page.click(`#screens a[data-screen="${name}"]`);
      await page.waitForLoadState('networkidle');
      await page.waitForTimeout(300);
      await check(page, name);
    }
    await clean();
    await close();
  });
}

test('the path is a grid with counted, named rows and cells', async () => {
  const { page, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  const grid = page.getByRole('grid', { name: /Path/ });
  assert.equal(await grid.getAttribute('aria-rowcount'), '12');
  assert.equal(await grid.getByRole('row').count(), 12);
  assert.equal(await grid.getByRole('gridcell').count(), 12 * 8);
  const snapshot = await page.locator('.path-drawing').ariaSnapshot();
  assert.match(snapshot, /row "Step 1, from ␣time"/);
  assert.match(snapshot, /gridcell ", ?, chosen, rank 1, energy [\d.,]+, 99\s?%, observed edge"/);
  for (const role of ['navigation', 'main', 'complementary', 'banner']) assert.equal(await page.getByRole(role).count(), 1, role);
  await close();
});
