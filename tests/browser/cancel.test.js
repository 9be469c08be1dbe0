// Closing a tab or pressing Stop cancels its run on the server and no other.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { address, drawn, launch, open, pathOf } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const runs = async () => (await fetch(`${address}api/v1/runs`)).json();
const until = async (holds) => {
  for (let left = 300; left > 0; left -= 1) {
    const now = await runs();
    if (holds(now)) return now;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`timed out: ${JSON.stringify(await runs())}`);
};
// Long enough not to end before a slow browser has pressed Stop.
const long = pathOf({ tokens: 16384, ignore_eos: 1, temperature: 1, candidates: 64 });

test('closing a tab cancels only its own run', async () => {
  const { cancelled } = await until((now) => now.running === 0);
  const first = await open(browser, long);
  await until((now) => now.running === 1);
  const second = await open(browser, pathOf({ tokens: 24, ignore_eos: 1 }));
  await first.close();
  const after_ = await until((now) => now.cancelled > cancelled && now.running <= 1);
  assert.equal(after_.cancelled, cancelled + 1);
  await drawn(second.page, 24);
  await until((now) => now.running === 0);
  await second.clean();
  await second.close();
});

test('Stop and Escape cancel a run', async () => {
  const { cancelled } = await until((now) => now.running === 0);
  const { page, clean, close } = await open(browser, long);
  await page.waitForSelector('.column');
  await page.click('.panel-head button:has-text("Stop")');
  await until((now) => now.running === 0 && now.cancelled === cancelled + 1);
  await page.waitForFunction(() => /stopped after \d+ steps/.test(document.querySelector('.panel-head').textContent));
  await page.reload();
  await page.waitForSelector('.column');
  await page.focus('#main');
  await page.keyboard.press('Escape');
  await until((now) => now.running === 0 && now.cancelled === cancelled + 2);
  await clean();
  await close();
});
