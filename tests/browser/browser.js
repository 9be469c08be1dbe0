// Opens the page in chromium, and checks for every test that there was no foreign request, no error and no violation of
// the content-security policy.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

export const address = process.env.BRILLM_ADDRESS;
export const root = fileURLToPath(new URL('../../', import.meta.url));
assert.ok(address, 'BRILLM_ADDRESS is not set: start these tests with tests/browser/run');

const PLAIN = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic'];
// Chromium no longer falls back to software WebGL: without the second flag a canvas stays blank.
const WEBGL = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader'];

/** Launch a browser, with or without WebGL. */
export const launch = ({ webgl = true } = {}) =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...PLAIN, ...(webgl ? WEBGL : ['--disable-gpu', '--disable-3d-apis', '--disable-webgl'])] });

/** Open a page and record foreign requests, errors and violations; `clean()` asserts that there were none. */
export async function open(browser, path = '', options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, locale: 'en-GB', ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']).catch(() => {});
  const page = await context.newPage();
  page.setDefaultTimeout(120000);
  const foreign = [], errors = [];
  await context.route('**/*', (route) => {
    const { hostname, protocol } = new URL(route.request().url());
    if (protocol === 'data:' || protocol === 'blob:' || hostname === '127.0.0.1') return route.continue();
    foreign.push(route.request().url());
    return route.abort();
  });
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(error.stack));
  await page.addInitScript(() => {
    globalThis.refused = [];
    addEventListener('securitypolicyviolation', (event) => globalThis.refused.push(`${event.violatedDirective}: ${event.blockedURI}`));
  });
  await page.goto(address + path);
  await page.waitForSelector('#main .screen');
  return {
    page, context, foreign, errors,
    async clean() {
      assert.deepEqual(foreign, [], 'there was a foreign request');
      assert.deepEqual(errors, [], 'there were errors on the console');
      assert.deepEqual(await page.evaluate(() => globalThis.refused), [], 'the content-security policy was violated');
    },
    close: () => context.close(),
  };
}

/** The address of a path with a fixed model and seed. */
export const pathOf = (values) => `#/path?${new URLSearchParams({ model: 'english', prompt: 'Once upon a time', tokens: 12, lang: 'en', ...values })}`;

/** Wait until a panel has all its steps. */
export async function drawn(page, steps, panel = 0) {
  await page.waitForFunction(([at, count]) => document.querySelectorAll(`.panel[data-panel="${at}"] .column`).length === count, [panel, steps]);
}

/** The ids that were chosen in a panel, read from the drawing. */
export const chosen = (page, panel = 0) =>
  page.$$eval(`.panel[data-panel="${panel}"] .candidate.chosen`, (cells) => cells.map((cell) => Number(cell.dataset.node)));

/** Click a candidate and wait until the inspector has followed. */
export async function press(page, panel, step, which) {
  await page.locator(`.panel[data-panel="${panel}"] .column[data-step="${step}"] .candidate${which} .cell-number`).click();
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** The output of the command line. */
export async function cli(...words) {
  const { stdout } = await promisify(execFile)(process.env.BRILLM, words, { cwd: root, maxBuffer: 1 << 26 });
  return stdout;
}

/** The number of colours of an image; a blank one has one. */
export function colours(page, png) {
  return page.evaluate(async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width: image.width, height: image.height });
    const pen = canvas.getContext('2d');
    pen.drawImage(image, 0, 0);
    return new Set(new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer)).size;
  }, png.toString('base64'));
}

/** The 95th percentile. */
export const p95 = (values) => [...values].sort((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1];
