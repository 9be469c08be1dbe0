// The screenshots of the documentation: a trace in English and one in Chinese. They are taken every time, and written
// to the folder of --screenshots.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { colours, drawn, launch, open, pathOf, press } from './browser.js';

const folder = process.env.BRILLM_SCREENSHOTS;
let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

async function keep(page, name) {
  // The state of a run has a duration, which would make every screenshot different.
  await page.evaluate(() => document.querySelectorAll('.panel-head .figure').forEach((node) => node.remove()));
  await page.evaluate(() => document.activeElement?.blur());
  const png = await page.screenshot();
  assert.ok((await colours(page, png)) > 100, `${name} is blank`);
  if (folder) await writeFile(join(folder, `${name}.png`), png);
}

test('English, light, with a what-if', async () => {
  const { page, clean, close } = await open(browser, pathOf({ tokens: 14, shown: 6, step: 3 }), { colorScheme: 'light', viewport: { width: 1360, height: 1040 } });
  await drawn(page, 14);
  await press(page, 0, 2, '[aria-colindex="2"]');
  await page.click('.inspector button.primary');
  await drawn(page, 14, 1);
  await page.waitForSelector('.pushes li');
  await page.waitForTimeout(300);
  await keep(page, 'english');
  await clean();
  await close();
});

test('Chinese, dark, with an emoji in bytes', async () => {
  const { page, clean, close } = await open(browser, pathOf({ model: 'chinese', prompt: '从前有一个😀', tokens: 14, step: 4, lang: 'zh' }), { colorScheme: 'dark' });
  await drawn(page, 14);
  await page.waitForSelector('.pushes li');
  await page.waitForTimeout(300);
  await keep(page, 'chinese');
  await clean();
  await close();
});
