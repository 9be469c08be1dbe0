// The page: opens screens, handles keys, keeps the address up to date.

import * as address from './address.js';
import { notice } from './dialog.js';
import { button, element, put } from './element.js';
import { help } from './help.js';
import { load } from './state.js';
import { listen } from './keyboard.js';
import { saveLanguage, language, languages, t, setLanguage, preferredLanguage } from './language.js';
import { fromAddress } from './request.js';
import { openTrace } from './saved_traces.js';
import { table } from './table.js';
import { restoreTheme, theme, toggleTheme, watchTheme } from './theme.js';
import { compare } from './screen/compare.js';
import { library } from './screen/library.js';
import { map } from './screen/map.js';
import { node } from './screen/node.js';
import { path } from './screen/path.js';
import { plugins } from './screen/plugins.js';
import { run } from './screen/run.js';

const SCREENS = { run, path, node, map, compare, plugins, library };
const main = document.getElementById('main');
let app, screen, name, asTable = false, tableButton = null;

const frame = {
  /** Open a screen as a new entry of the history. */
  go(to, options = {}) {
    show(to, options);
    address.write(name, values(), { entry: true });
  },
  /** Open the node screen for a node. */
  node(model, id) {
    app.node = { model, id };
    this.go('node');
  },
  /** Write the view into the address. */
  address: () => screen && address.write(name, values()),
  /** Move the focus from a field to the screen, so that keys are actions again. */
  rest: () => main.focus({ preventScroll: true }),
  tableButton() {
    tableButton = button([t('table.toggle'), element('span', { class: 'key' }, 't')], toggleTable, { 'aria-pressed': 'false' });
    return tableButton;
  },
};

const values = () => ({ ...screen.values(), ...(asTable ? { table: 1 } : {}), lang: language() });

function show(to, { start = false } = {}) {
  screen?.close();
  name = to in SCREENS ? to : 'path';
  asTable = false;
  tableButton = null;
  screen = SCREENS[name](app, frame);
  put(main, screen.root);
  document.title = `${t(`screen.${name}`)} · brillm`;
  for (const link of document.querySelectorAll('#screens a')) {
    if (link.dataset.screen === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.focus({ preventScroll: true });
  if (start) screen.go?.();
}

/** Show tables instead of the drawing, or the drawing again, which keeps its state. */
function toggleTable() {
  if (!tableButton) return false;
  asTable = !asTable;
  tableButton.setAttribute('aria-pressed', String(asTable));
  screen.root.classList.toggle('as-table', asTable);
  main.querySelector('.tables')?.remove();
  if (asTable) {
    const tables = screen.tables();
    screen.root.append(element('div', { class: 'tables stack' }, tables.length ? tables.map(table) : element('p', { class: 'empty card' }, t('table.empty'))));
  }
  frame.address();
  return true;
}

/** Rebuild the tables for the current selection. */
function refreshTables() {
  if (!asTable) return;
  const old = main.querySelector('.tables');
  const focused = old?.contains(document.activeElement);
  if (focused) return;
  asTable = false;
  toggleTable();
}

const everywhere = {
  run: () => frame.go('run'), path: () => frame.go('path'), map: () => frame.go('map'), compare: () => frame.go('compare'),
  search: () => { frame.go('node'); screen.answer('search'); },
  table: toggleTable, theme: () => toggleTheme(), help: () => help(),
};

function answer(action) {
  if (action === 'back' && document.activeElement?.matches('input, textarea, select')) {
    frame.rest();
    return true;
  }
  if (action === 'back' && asTable) return toggleTable();
  if (screen.answer(action)) return true;
  if (action === 'run' && name === 'run') return screen.focus(), true;
  if (!everywhere[action]) return false;
  everywhere[action]();
  return true;
}

function bar() {
  document.getElementById('skip').textContent = t('frame.skip');
  const nav = document.getElementById('screens');
  nav.setAttribute('aria-label', t('frame.screens'));
  put(nav, ...Object.keys(SCREENS).map((each) => element('a', { href: `#/${each}`, 'data-screen': each, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    frame.go(each);
  } }, t(`screen.${each}`))));
  const themes = button('', toggleTheme, { class: 'quiet' });
  const showTheme = () => { themes.textContent = t(`theme.${theme()}`); themes.title = `${t('key.theme')} (d)`; themes.setAttribute('aria-label', `${t('key.theme')}: ${t(`theme.${theme()}`)}`); };
  watchTheme(showTheme);
  showTheme();
  const languageSelect = element('select', { 'aria-label': t('frame.language'), onchange: async () => {
    saveLanguage(languageSelect.value);
    await setLanguage(languageSelect.value);
    bar();
    show(name);
    frame.address();
  } }, Object.entries(languages()).map(([tag, label]) => element('option', { value: tag, lang: tag, selected: tag === language() }, label)));
  put(document.getElementById('settings'), themes, languageSelect, button('?', () => help(), { class: 'quiet', 'aria-label': t('help.title') }));
}

/** Restore the view of an address; paths are traced again, since a seed reproduces them. */
async function restore({ screen: to, values: given }) {
  if (given.lang && given.lang !== language()) {
    await setLanguage(given.lang);
    bar();
  }
  const side = (text) => {
    try {
      const read = JSON.parse(text);
      return read && typeof read === 'object' ? { ...app.request, plugins: [], interventions: [], ...read } : null;
    } catch { return null; }
  };
  if (given.a || given.b) Object.assign(app, { sides: [side(given.a), side(given.b)], sidesGiven: true });
  if (given.node !== undefined && Number.isInteger(Number(given.node))) app.node = { model: given.model ?? app.node.model, id: Number(given.node) };
  if (given.level || given.k) app.mapView = { ...(given.level ? { level: given.level } : {}), ...(Number(given.k) ? { k: Number(given.k) } : {}) };
  if (Number(given.shown)) app.paths.shown = Math.min(64, Math.max(2, Number(given.shown)));
  const request = to === 'path' || to === 'run' ? fromAddress(given) : null;
  if (request) app.request = { ...request, model: request.model ?? app.request.model };
  show(to, { start: to === 'compare' && given.run === '1' });
  if (given.table === '1' && to !== 'path') toggleTable();
  if (request && to === 'path') {
    let forks = [];
    try { forks = JSON.parse(given.forks ?? '[]'); } catch { /* A mangled address opens the path without forks. */ }
    const first = app.paths.run(app.request);
    await first.finished;
    for (const interventions of Array.isArray(forks) ? forks.slice(0, 8) : [])
      await app.paths.run({ ...app.request, interventions }, { fork: { from: first.key, step: 0 } }).finished;
    app.paths.select({ at: Number(given.panel) || 0, step: (Number(given.step) || 1) - 1, ...(Number(given.row) ? { row: Number(given.row) - 1 } : {}) });
    if (given.table === '1') toggleTable();
  }
  if (to === 'compare' && given.run === '1' && app.comparison.panels.length) {
    await Promise.all(app.comparison.panels.map((panel) => panel.finished));
    app.comparison.select({ step: (Number(given.step) || 1) - 1 });
  }
  if (given.saved) app.paths.open(await openTrace(given.saved));
}

async function open() {
  restoreTheme();
  const start = address.read();
  await setLanguage(preferredLanguage(start.values.lang));
  app = await load();
  bar();
  for (const paths of [app.paths, app.comparison]) {
    let waiting;
    // The browser limits how often an address may change: a held key writes it once, at the end.
    for (const event of ['select', 'panels', 'shown']) paths.addEventListener(event, () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { frame.address(); refreshTables(); }, 300);
    });
  }
  listen(answer);
  address.watch((to) => restore(to).catch((error) => notice(error.message, { error: true })));
  // Closing a tab cancels its runs on the server.
  addEventListener('pagehide', () => { app.paths.stop(); app.comparison.stop(); });
  document.getElementById('skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
  await restore(start);
}

open().catch((error) => {
  put(main, element('p', { class: 'empty', role: 'alert' }, `${error.message}`));
});
