// Themes: the drawing follows light and dark, and stays visible with forced colours.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { colours, drawn, launch, open, pathOf } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
const lightness = ([red, green, blue]) => (red + green + blue) / 3;

test('the theme follows the system and the key', async () => {
  for (const [colorScheme, dark] of [['light', false], ['dark', true]]) {
    const { page, clean, close } = await open(browser, pathOf({}), { colorScheme });
    await drawn(page, 12);
    assert.equal(lightness(await ground(page)) < 80, dark);
    await page.keyboard.press('d');
    assert.equal(await page.getAttribute('html', 'data-theme'), 'light');
    assert.ok(lightness(await ground(page)) > 200);
    await page.keyboard.press('d');
    assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
    assert.ok(lightness(await ground(page)) < 80);
    await page.reload();
    await drawn(page, 12);
    assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
    await clean();
    await close();
  }
});

test('forced colours keep cells, bars and the ring visible', async () => {
  const { page, clean, close } = await open(browser, pathOf({ step: 2 }), { forcedColors: 'active' });
  await drawn(page, 12);
  const [cell, page_] = await page.evaluate(() => [getComputedStyle(document.querySelector('.candidate .cell')).stroke, getComputedStyle(document.body).backgroundColor]);
  assert.notEqual(cell, page_);
  const ring = await page.evaluate(() => getComputedStyle(document.querySelector('.active .ring')).borderTopColor);
  assert.notEqual(ring, page_);
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('header.bar')).opacity), '1');
  assert.ok((await colours(page, await page.locator('.path-drawing').first().screenshot())) > 5);
  await clean();
  await close();
});
