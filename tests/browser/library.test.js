// The library: save, open, open side by side, merge and delete traces.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chosen, drawn, launch, open, pathOf } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

async function save(page, name, notes) {
  await page.focus('#main');
  await page.keyboard.press('s');
  await page.waitForSelector('dialog[open]');
  await page.fill('dialog input >> nth=0', name);
  await page.fill('dialog textarea', notes);
  await page.click('dialog button.primary');
  await page.waitForFunction((saved) => document.querySelector('#notice').textContent.includes(saved), name);
}

test('save, open, side by side, merge, delete', async () => {
  const { page, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  const before = await chosen(page);
  await page.keyboard.press('p');
  await save(page, 'first walk', 'the little girl');
  await page.keyboard.press('p');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('p');
  await save(page, '第二', 'another look');

  await page.click('#screens a[data-screen="library"]');
  await page.waitForSelector('.saved-row >> nth=1');
  assert.match(await page.textContent('.saved-list'), /the little girl/);
  const row = (name) => page.locator('.saved-row', { has: page.locator(`input[aria-label*="${name}"]`) });
  await row('first walk').locator('input').check();
  await row('第二').locator('input').check();
  await page.click('button:has-text("Merge marks")');
  await page.waitForFunction(() => /2 pins/.test(document.querySelector('.saved-list').textContent));

  await page.click('button:has-text("Open side by side")');
  await drawn(page, 12, 1);
  assert.deepEqual(await chosen(page, 0), before);
  assert.deepEqual(await chosen(page, 1), before);

  await page.click('#screens a[data-screen="library"]');
  await page.waitForSelector('.saved-row >> nth=1');
  await row('first walk').locator('button:has-text("Open")').click();
  await drawn(page, 12);
  assert.equal(await page.locator('.panel[data-panel="0"] .candidate.pinned').count(), 2);
  assert.match(await page.inputValue('.inspector textarea'), /the little girl[^]*another look/);

  for (const name of ['first walk', '第二']) {
    await page.click('#screens a[data-screen="library"]');
    await page.waitForSelector('.saved-row');
    await row(name).locator('button:has-text("Delete")').click();
    await page.click('dialog button.primary');
    await row(name).waitFor({ state: 'detached' });
  }
  await page.waitForSelector('.empty');
  await clean();
  await close();
});
