// Both languages; Chinese, emoji and split bytes as tokens; no U+FFFD and no missing glyph.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { colours, drawn, launch, open, pathOf, root } from './browser.js';

const assets = `${root}engine/serve/assets/`;
let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test('both locales have the same keys and parameters, and every key that the page uses', async () => {
  const [english, chinese] = await Promise.all(['en', 'zh'].map(async (name) => JSON.parse(await readFile(`${assets}locale/${name}.json`, 'utf8'))));
  assert.deepEqual(Object.keys(chinese).sort(), Object.keys(english).sort());
  const parameters = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
  for (const key of Object.keys(english)) assert.deepEqual(parameters(chinese[key]), parameters(english[key]), key);
  const used = new Set();
  for (const name of await readdir(`${assets}app`, { recursive: true })) {
    if (!name.endsWith('.js')) continue;
    const source = await readFile(`${assets}app/${name}`, 'utf8');
    for (const match of source.matchAll(/\bt\('([\w.]+)'/g)) used.add(match[1]);
    for (const match of source.matchAll(/\bt\(\w+ \? '([\w.]+)' : '([\w.]+)'/g)) used.add(match[1]).add(match[2]);
  }
  assert.ok(used.size > 100);
  for (const key of used) assert.ok(key in english, `${key} is not in the locales`);
});

test('Chinese, emoji and split bytes are readable in Chinese', async () => {
  const { page, clean, close } = await open(browser, pathOf({ model: 'chinese', prompt: '春天😀 A\n龘', tokens: 8, lang: 'zh' }));
  await drawn(page, 8);
  assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
  assert.equal(await page.textContent('h1'), '路径');
  const body = await page.evaluate(() => document.body.textContent + [...document.querySelectorAll('[aria-label], [title]')].map((node) => `${node.getAttribute('aria-label')} ${node.getAttribute('title')}`).join(' '));
  assert.ok(!body.includes('\ufffd'), 'U+FFFD is shown');
  assert.doesNotMatch(body, /<0x/);
  const joined = await page.$$eval('.joined', (nodes) => nodes.map((node) => [node.querySelector('.joined-character').textContent, node.querySelectorAll('.token-byte').length]));
  assert.ok(joined.some(([character, bytes]) => character === '😀' && bytes === 4), JSON.stringify(joined));
  assert.ok(await page.$('.chip .token[lang="zh-CN"]'));
  assert.ok(await page.$('.token-sign'), 'the line end has a sign');
  assert.doesNotMatch(body, /\b(?:path|run|step|node|key|panel|inspector|candidate)\.[a-z-]+\b/, 'a key shows in place of its string');
  await clean();
  await close();
});

test('Chinese glyphs are drawn, not boxes', async () => {
  const { page, close } = await open(browser, pathOf({ model: 'chinese', prompt: '春天', tokens: 4, lang: 'zh' }));
  await drawn(page, 4);
  const shapes = await page.evaluate(() => ['春', '夏', '\u{10fffd}'].map((character) => {
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width: 40, height: 40 });
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    pen.font = `30px ${getComputedStyle(document.body).fontFamily}`;
    pen.fillText(character, 2, 32);
    return [...pen.getImageData(0, 0, 40, 40).data].filter((_, at) => at % 4 === 3).map((alpha) => (alpha > 127 ? 1 : 0)).join('');
  }));
  assert.match(shapes[0], /1/);
  assert.notEqual(shapes[0], shapes[1], 'both characters look the same: boxes');
  assert.notEqual(shapes[0], shapes[2]);
  assert.ok((await colours(page, await page.screenshot())) > 50);
  await close();
});

test('the chosen language is kept', async () => {
  const { page, clean, close } = await open(browser, pathOf({}));
  await drawn(page, 12);
  await page.selectOption('#settings select', 'zh');
  await page.waitForFunction(() => document.querySelector('h1').textContent === '路径');
  await drawn(page, 12);
  await page.goto(`${page.url().split('#')[0]}#/library`);
  await page.reload();
  await page.waitForFunction(() => document.querySelector('h1')?.textContent === '记录库');
  await clean();
  await close();
});

test('a Chinese browser gets the page in Chinese', async () => {
  const { page, close } = await open(browser, '', { locale: 'zh-CN' });
  await page.waitForFunction(() => document.querySelector('h1').textContent === '路径');
  await close();
});
