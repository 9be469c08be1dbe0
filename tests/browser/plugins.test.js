// The plugins that there are: their options, and the path with one beside the path without.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { address, launch, open } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('the screen lists what the server has and leads to the comparison', async () => {
  const there = await (await fetch(`${address}api/v1/plugins`)).json();
  const { page, clean, close } = await open(browser, '#/plugins?lang=en');
  if (!there.length) {
    assert.match(await page.textContent('.empty'), /brillm plugin build/);
  } else {
    assert.equal(await page.locator('section.card').count(), there.length);
    for (const plugin of there.filter((each) => each.name)) assert.match(await page.textContent('#main'), new RegExp(plugin.name));
    const sound = there.findIndex((plugin) => plugin.name && !plugin.fault && plugin.paths.length);
    await page.locator('section.card').nth(sound).locator('button').click();
    await page.waitForFunction(() => location.hash.startsWith('#/compare'));
    await page.waitForFunction(() => document.querySelectorAll('.lane').length === 2);
    assert.ok((await page.inputValue('.columns section:nth-child(2) input[type="text"]')).startsWith(there[sound].name));
  }
  await page.click('#screens a[data-screen="plugins"]');
  await page.keyboard.press('t');
  assert.equal(await page.locator('.twins tbody tr').count(), there.length);
  await clean();
  await close();
});
