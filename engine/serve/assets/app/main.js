// The frame: opens the screens, answers keys, keeps the address.

import * as address from './address.js';
import { notice } from './dialog.js';
import { button, element, put } from './element.js';
import { help } from './help.js';
import { load } from './house.js';
import { listen } from './keyboard.js';
import { keepLanguage, language, languages, say, speak, wanted } from './language.js';
import { fromAddress } from './request.js';
import { openTrace } from './shelf.js';
import { table } from './table.js';
import { restoreTheme, theme, turnTheme, watchTheme } from './theme.js';
import { compare } from './screen/compare.js';
import { library } from './screen/library.js';
import { map } from './screen/map.js';
import { node } from './screen/node.js';
import { path } from './screen/path.js';
import { plugins } from './screen/plugins.js';
import { run } from './screen/run.js';

const SCREENS = { run, path, node, map, compare, plugins, library };
const main = document.getElementById('main');
let house, screen, name, asTable = false, tableButton = null;

const frame = {
  /** Opens a screen as a new entry of the history. */
  go(to, options = {}) {
    show(to, options);
    address.write(name, values(), { entry: true });
  },
  /** Opens the node screen on a node. */
  node(model, id) {
    house.node = { model, id };
    this.go('node');
  },
  /** Writes the view into the address. */
  address: () => screen && address.write(name, values()),
  /** Puts the focus on the screen, away from a field: keys then mean the screen's actions. */
  rest: () => main.focus({ preventScroll: true }),
  tableButton() {
    tableButton = button([say('table.twin'), element('span', { class: 'key' }, 't')], turnTable, { 'aria-pressed': 'false' });
    return tableButton;
  },
};

const values = () => ({ ...screen.values(), ...(asTable ? { table: 1 } : {}), lang: language() });

function show(to, { start = false } = {}) {
  screen?.close();
  name = to in SCREENS ? to : 'path';
  asTable = false;
  tableButton = null;
  screen = SCREENS[name](house, frame);
  put(main, screen.root);
  document.title = `${say(`screen.${name}`)} · brillm`;
  for (const link of document.querySelectorAll('#screens a')) {
    if (link.dataset.screen === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.focus({ preventScroll: true });
  if (start) screen.go?.();
}

/** The table twin stands in the place of the drawing; the drawing keeps its state behind it. */
function turnTable() {
  if (!tableButton) return false;
  asTable = !asTable;
  tableButton.setAttribute('aria-pressed', String(asTable));
  screen.root.classList.toggle('as-table', asTable);
  main.querySelector('.twins')?.remove();
  if (asTable) {
    const tables = screen.tables();
    screen.root.append(element('div', { class: 'twins stack' }, tables.length ? tables.map(table) : element('p', { class: 'empty card' }, say('table.empty'))));
  }
  frame.address();
  return true;
}

/** The tables follow what is looked at. */
function refreshTables() {
  if (!asTable) return;
  const old = main.querySelector('.twins');
  const focused = old?.contains(document.activeElement);
  if (focused) return;
  asTable = false;
  turnTable();
}

const everywhere = {
  run: () => frame.go('run'), path: () => frame.go('path'), map: () => frame.go('map'), compare: () => frame.go('compare'),
  search: () => { frame.go('node'); screen.answer('search'); },
  table: turnTable, theme: () => turnTheme(), help: () => help(),
};

function answer(action) {
  if (action === 'back' && document.activeElement?.matches('input, textarea, select')) {
    frame.rest();
    return true;
  }
  if (action === 'back' && asTable) return turnTable();
  if (screen.answer(action)) return true;
  if (action === 'run' && name === 'run') return screen.focus(), true;
  if (!everywhere[action]) return false;
  everywhere[action]();
  return true;
}

function bar() {
  document.getElementById('skip').textContent = say('frame.skip');
  const nav = document.getElementById('screens');
  nav.setAttribute('aria-label', say('frame.screens'));
  put(nav, ...Object.keys(SCREENS).map((each) => element('a', { href: `#/${each}`, 'data-screen': each, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    frame.go(each);
  } }, say(`screen.${each}`))));
  const themes = button('', turnTheme, { class: 'quiet' });
  const name_ = () => { themes.textContent = say(`theme.${theme()}`); themes.title = `${say('key.theme')} (d)`; themes.setAttribute('aria-label', `${say('key.theme')}: ${say(`theme.${theme()}`)}`); };
  watchTheme(name_);
  name_();
  const tongues = element('select', { 'aria-label': say('frame.language'), onchange: async () => {
    keepLanguage(tongues.value);
    await speak(tongues.value);
    bar();
    show(name);
    frame.address();
  } }, Object.entries(languages()).map(([tag, label]) => element('option', { value: tag, lang: tag, selected: tag === language() }, label)));
  put(document.getElementById('settings'), themes, tongues, button('?', () => help(), { class: 'quiet', 'aria-label': say('help.title') }));
}

/** Brings back what an address tells: the path is run again, since a seed replays it. */
async function restore({ screen: to, values: told }) {
  if (told.lang && told.lang !== language()) {
    await speak(told.lang);
    bar();
  }
  const side = (text) => {
    try {
      const read = JSON.parse(text);
      return read && typeof read === 'object' ? { ...house.asked, plugins: [], interventions: [], ...read } : null;
    } catch { return null; }
  };
  if (told.a || told.b) Object.assign(house, { sides: [side(told.a), side(told.b)], sidesGiven: true });
  if (told.node !== undefined && Number.isInteger(Number(told.node))) house.node = { model: told.model ?? house.node.model, id: Number(told.node) };
  if (told.level || told.k) house.mapView = { ...(told.level ? { level: told.level } : {}), ...(Number(told.k) ? { k: Number(told.k) } : {}) };
  if (Number(told.shown)) house.desk.shown = Math.min(64, Math.max(2, Number(told.shown)));
  const request = to === 'path' || to === 'run' ? fromAddress(told) : null;
  if (request) house.asked = { ...request, model: request.model ?? house.asked.model };
  show(to, { start: to === 'compare' && told.run === '1' });
  if (told.table === '1' && to !== 'path') turnTable();
  if (request && to === 'path') {
    let forks = [];
    try { forks = JSON.parse(told.forks ?? '[]'); } catch { /* A mangled address opens the path without forks. */ }
    const first = house.desk.run(house.asked);
    await first.finished;
    for (const interventions of Array.isArray(forks) ? forks.slice(0, 8) : [])
      await house.desk.run({ ...house.asked, interventions }, { fork: { from: first.key, step: 0 } }).finished;
    house.desk.select({ at: Number(told.lane) || 0, step: (Number(told.step) || 1) - 1, ...(Number(told.row) ? { row: Number(told.row) - 1 } : {}) });
    if (told.table === '1') turnTable();
  }
  if (to === 'compare' && told.run === '1' && house.bench.lanes.length) {
    await Promise.all(house.bench.lanes.map((lane) => lane.finished));
    house.bench.select({ step: (Number(told.step) || 1) - 1 });
  }
  if (told.saved) house.desk.open(await openTrace(told.saved));
}

async function open() {
  restoreTheme();
  const place = address.read();
  await speak(wanted(place.values.lang));
  house = await load();
  bar();
  for (const desk of [house.desk, house.bench]) {
    let waiting;
    // The browser refuses an address that changes too often: a held key writes it once, at the end.
    for (const event of ['select', 'lanes', 'shown']) desk.addEventListener(event, () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { frame.address(); refreshTables(); }, 300);
    });
  }
  listen(answer);
  address.watch((to) => restore(to).catch((error) => notice(error.message, { error: true })));
  // A tab that closes leaves no work behind on the server.
  addEventListener('pagehide', () => { house.desk.stop(); house.bench.stop(); });
  document.getElementById('skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
  await restore(place);
}

open().catch((error) => {
  put(main, element('p', { class: 'empty', role: 'alert' }, `${error.message}`));
});
