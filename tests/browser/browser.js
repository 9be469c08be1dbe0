// Opens the page in chromium and holds what every test asks of it: no foreign request, no error, no refusal by the
// content-security policy.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

export const address = process.env.BRILLM_ADDRESS;
export const root = fileURLToPath(new URL('../../', import.meta.url));
assert.ok(address, 'BRILLM_ADDRESS is not set: start these tests with tests/browser/run');

const PLAIN = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic'];
// Chromium falls back to no software WebGL by itself any more: without the second flag a canvas stays blank.
const WEBGL = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader'];

/** A browser; with `webgl` false one that cannot draw a map. */
export const launch = ({ webgl = true } = {}) =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...PLAIN, ...(webgl ? WEBGL : ['--disable-gpu', '--disable-3d-apis', '--disable-webgl'])] });

/** A page that keeps what must not happen; `clean()` asserts that none of it did. */
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
      assert.deepEqual(foreign, [], 'a request left the machine');
      assert.deepEqual(errors, [], 'the console holds errors');
      assert.deepEqual(await page.evaluate(() => globalThis.refused), [], 'the content-security policy refused something');
    },
    close: () => context.close(),
  };
}

/** The address of a path: a fixed model and seed. */
export const pathOf = (values) => `#/path?${new URLSearchParams({ model: 'english', prompt: 'Once upon a time', tokens: 12, lang: 'en', ...values })}`;

/** Waits until a lane has all its steps. */
export async function drawn(page, steps, lane = 0) {
  await page.waitForFunction(([at, count]) => document.querySelectorAll(`.lane[data-lane="${at}"] .column`).length === count, [lane, steps]);
}

/** The ids a lane chose, read from the drawing. */
export const chosen = (page, lane = 0) =>
  page.$$eval(`.lane[data-lane="${lane}"] .candidate.chosen`, (cells) => cells.map((cell) => Number(cell.dataset.node)));

/** Presses a candidate with the pointer and waits until the inspector has followed. */
export async function press(page, lane, step, which) {
  await page.locator(`.lane[data-lane="${lane}"] .column[data-step="${step}"] .candidate${which} .cell-number`).click();
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** What the command line says about the same. */
export async function cli(...words) {
  const { stdout } = await promisify(execFile)(process.env.BRILLM, words, { cwd: root, maxBuffer: 1 << 26 });
  return stdout;
}

/** How many colours a picture has: one that is blank has one. */
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

/** The value below which 95 of 100 lie. */
export const p95 = (values) => [...values].sort((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1];
