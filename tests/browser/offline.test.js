// No screen sends a foreign request; the vendored libraries match their lock file.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { address, drawn, launch, open, pathOf, root } from './browser.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('every screen opens without a foreign request, an error or a violation of the policy', async () => {
  const { page, foreign, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  for (const name of ['run', 'node', 'map', 'compare', 'plugins', 'library', 'path']) {
    await page.click(`#screens a[data-screen="${name}"]`);
    await page.waitForFunction((to) => location.hash.startsWith(`#/${to}`), name);
    await page.waitForLoadState('networkidle');
    await clean();
  }
  // The check works: a foreign request is recorded.
  await page.evaluate(() => fetch('http://example.invalid/', { mode: 'no-cors' }).catch(() => {}));
  assert.ok(foreign.length || (await page.evaluate(() => globalThis.refused.length)) > 0);
  await close();
});

test('the policy allows no inline script, style or eval, and the page has none', async () => {
  const answer = await fetch(address);
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /unsafe/);
  const html = await answer.text();
  assert.doesNotMatch(html, /<style|style=|<script(?![^>]*src=)|\son\w+=|https?:/);
});

test('vendored libraries match their lock file', async () => {
  const folder = `${root}engine/serve/assets/vendor/`;
  const lock = (await readFile(`${folder}vendor.lock`, 'utf8')).split('\n').filter((line) => line && !line.startsWith('#'));
  const named = new Set();
  for (const line of lock) {
    const [sum, name] = line.split(/\s+/);
    named.add(name);
    assert.equal(createHash('sha256').update(await readFile(folder + name)).digest('hex'), sum, name);
    const served = Buffer.from(await (await fetch(`${address}vendor/${name}`)).arrayBuffer());
    assert.equal(createHash('sha256').update(served).digest('hex'), sum, `served ${name}`);
  }
  for (const name of await readdir(folder)) if (name !== 'vendor.lock') assert.ok(named.has(name), `${name} is not in vendor.lock`);
});
