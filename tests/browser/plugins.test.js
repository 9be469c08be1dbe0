// The plugins screen: the installed plugins, and the comparison with and without one.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { address, launch, open } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('the screen lists the plugins of the server and opens the comparison', async () => {
  const there = await (await fetch(`${address}api/v1/plugins`)).json();
  const { page, clean, close } = await open(browser, '#/plugins?lang=en');
  if (!there.length) {
    assert.match(await page.textContent('.empty'), /brillm plugin build/);
  } else {
    assert.equal(await page.locator('section.card').count(), there.length);
    for (const plugin of there.filter((each) => each.name)) assert.match(await page.textContent('#main'), new RegExp(plugin.name));
    const usable = there.findIndex((plugin) => plugin.name && !plugin.error && plugin.paths.length);
    await page.locator('section.card').nth(usable).locator('button').click();
    await page.waitForFunction(() => location.hash.startsWith('#/compare'));
    await page.waitForFunction(() => document.querySelectorAll('.panel').length === 2);
    assert.ok((await page.inputValue('.columns section:nth-child(2) input[type="text"]')).startsWith(there[usable].name));
  }
  await page.click('#screens a[data-screen="plugins"]');
  await page.keyboard.press('t');
  assert.equal(await page.locator('.tables tbody tr').count(), there.length);
  await clean();
  await close();
});
