// The map: its levels, the path over it, and its replacement without WebGL.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { colours, drawn, launch, open, pathOf } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('the map draws each level and the path over it', async () => {
  const { page, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  await page.keyboard.press('m');
  for (const level of ['0', '1', '2']) {
    await page.selectOption('.tools label:has-text("Detail") select', level);
    await page.waitForFunction((wanted) => new RegExp(wanted === '0' ? 'clusters of' : 'of .* nodes').test(document.querySelector('.screen > p[role="status"]').textContent), level);
    const count = Number(await page.getAttribute('.map-canvas', 'data-nodes'));
    assert.ok(count > 0 && count <= [200, 1500, 4000][level], `${count} at level ${level}`);
    await page.waitForTimeout(300);
    assert.ok((await colours(page, await page.locator('.map-canvas').screenshot())) > 10, `level ${level} is blank`);
  }
  // Filters reduce the number of nodes.
  const all = Number(await page.getAttribute('.map-canvas', 'data-nodes'));
  const frequency = page.locator('.tools label:has-text("Frequency") input');
  await frequency.fill('50');
  await frequency.press('Enter');
  await page.waitForFunction((was) => Number(document.querySelector('.map-canvas').dataset.nodes) < was, all);
  await frequency.fill('0');
  await frequency.press('Enter');
  await page.waitForFunction((was) => Number(document.querySelector('.map-canvas').dataset.nodes) === was, all);
  // A rectangle drawn with Shift selects nodes; the table lists the selection.
  const { x, y, width, height } = await page.locator('.map-canvas').boundingBox();
  await page.keyboard.down('Shift');
  await page.mouse.move(x + width * 0.3, y + height * 0.3);
  await page.mouse.down();
  await page.mouse.move(x + width * 0.6, y + height * 0.6, { steps: 4 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  await page.waitForFunction(() => /^[\d,]+ selected/.test(document.querySelector('.screen > p[role="status"]').textContent));
  const selected = Number((await page.textContent('.screen > p[role="status"]')).replace(/\D/g, ''));
  assert.ok(selected > 0 && selected < 4000);
  await page.focus('#main');
  await page.keyboard.press('t');
  assert.equal(await page.locator('.tables section:first-child tbody tr').count(), Math.min(1000, selected));
  await page.keyboard.press('t');
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type(' upon');
  await page.waitForSelector('.found li button');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.ego .candidate[role="button"]');
  await page.keyboard.press('Escape');
  await page.keyboard.press('t');
  assert.ok((await page.locator('.tables tbody tr').count()) > 100);
  await clean();
  await close();
});

test('without WebGL one node and its edges are drawn, without an error', async () => {
  const plain = await launch({ webgl: false });
  try {
    const { page, clean, close } = await open(plain, '#/map?model=english&lang=en');
    assert.equal(await page.evaluate(() => Boolean(document.createElement('canvas').getContext('webgl2'))), false, 'this browser has WebGL');
    await page.waitForSelector('.ego .candidate[role="button"]');
    assert.match(await page.textContent('.screen > p[role="status"]'), /no WebGL/);
    const first = await page.textContent('.ego .candidate.chosen');
    await page.locator('.ego .candidate[role="button"]').last().click();
    await page.waitForFunction((was) => document.querySelector('.ego .candidate.chosen').textContent !== was, first);
    await clean();
    await close();
  } finally {
    await plain.close();
  }
});
