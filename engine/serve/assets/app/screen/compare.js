// Compare: two paths side by side, whatever differs between them; where they first part is marked.

import { board } from '../board.js';
import { post } from '../connection.js';
import { button, element, put } from '../element.js';
import { exportDialog } from '../figure.js';
import { form } from '../form.js';
import { count, percent, say } from '../language.js';
import { DEFAULTS } from '../request.js';
import { table } from '../table.js';
import { fixed, stepsTable } from '../twin.js';

const NAMES = ['A', 'B'];

/** Another request that differs in one thing: another seed that draws, or another model. */
function other(house, request) {
  const rest = house.models.filter((model) => model.name !== request.model);
  const model = rest.find((each) => each.kind !== house.modelOf(request.model)?.kind) ?? rest[0];
  return model ? { ...request, model: model.name, prompt_ids: undefined } : { ...request, temperature: request.temperature || 0.8, seed: request.seed + 1 };
}

export function compare(house, frame) {
  const { bench } = house;
  // What an address or the plugins asked for stands; else the sides follow the path that was looked at last.
  if (!house.sidesGiven && !bench.lanes.length) house.sides = [null, house.desk.lanes[1]?.request ?? null];
  house.sidesGiven = false;
  const request = house.sides[0] ?? { ...DEFAULTS, ...house.asked, ...(house.desk.lanes[0]?.request ?? {}), interventions: [] };
  house.sides = [request, house.sides[1] ?? other(house, request)];
  const sides = NAMES.map((name, at) => {
    const fields = form({ ...house, brief: true, rows: 1, go, name: `side-${at}` });
    fields.write(house.sides[at]);
    return fields;
  });
  const names = (lane, at) => `${NAMES[at] ?? at} · ${lane.request.model ?? ''}`;
  const paths = board(bench, { names, forks: false, act: { node: (id) => frame.node(bench.lane.trace.model.name, id) } });
  const verdict = element('div', { class: 'verdict stack' });
  let answer = null;

  function go() {
    house.sides = sides.map((fields, at) => ({ ...fields.read(), interventions: house.sides[at]?.interventions ?? [] }));
    if (!house.sides.every((side) => side.prompt.trim() || side.prompt_ids)) return sides[0].prompt.focus();
    answer = null;
    put(verdict);
    bench.clear();
    Object.assign(bench, { at: 0, step: 0, row: 0 });
    const lanes = house.sides.map((side) => bench.run(side, { keep: true }));
    frame.address();
    frame.rest();
    Promise.all(lanes.map((lane) => lane.finished)).then(judge);
  }

  async function judge() {
    const [a, b] = bench.lanes;
    if (!a?.trace?.steps.length || !b?.trace?.steps.length || a.state === 'failed' || b.state === 'failed') return;
    try {
      answer = await post('api/v1/compare', { a: a.trace, b: b.trace });
    } catch (error) {
      put(verdict, element('p', { role: 'alert' }, error.message));
      return;
    }
    const at = answer.first_divergence;
    put(verdict, 
      element('p', { class: 'verdict-line', role: 'status' }, at === null ? say('compare.equal') : say('compare.parts', { step: at + 1 })),
      table(differences()), table(costs()));
  }

  /** What each side cost and how sure it was of its own path; the time is the server's and the page's together. */
  function costs() {
    const lanes = bench.lanes.slice(0, 2);
    const steps = (lane) => lane.trace.steps;
    const kept = (lane) => steps(lane).at(-1).cache?.reduce((sum, tokens) => sum + tokens, 0) ?? null;
    const perplexity = (lane) => Math.exp(steps(lane).reduce((sum, step) => sum + (step.resistance ?? Infinity), 0) / steps(lane).length);
    const rows = [
      ['compare.steps', (lane) => steps(lane).length, 0],
      ['compare.perplexity', perplexity, 3],
      ['compare.entropy', (lane) => steps(lane).reduce((sum, step) => sum + step.entropy, 0) / steps(lane).length, 3],
      ['compare.cache', kept, 0],
      ['compare.speed', (lane) => (lane.took ? steps(lane).length / lane.took : null), 1],
    ];
    const shown = (value, digits) => (value === null ? '–' : fixed(value, digits));
    return {
      caption: say('compare.costs'),
      columns: [{ label: say('compare.figure') }, { label: 'A', kind: 'number' }, { label: 'B', kind: 'number' }, { label: 'B ÷ A', kind: 'number' }],
      rows: rows.map(([key, of, digits]) => {
        const [a, b] = lanes.map(of);
        return [say(key), shown(a, digits), shown(b, digits), a && b !== null ? fixed(b / a, 3) : '–'];
      }),
    };
  }

  function differences() {
    const cell = (entry) => entry?.display ?? '–';
    return {
      caption: say('compare.table'),
      columns: [{ label: say('table.step'), kind: 'number' }, { label: 'A' }, { label: 'B' }, { label: say('compare.same') },
        { label: `${say('candidate.probability')} A`, kind: 'number' }, { label: `${say('candidate.probability')} B`, kind: 'number' }, { label: say('compare.probability'), kind: 'number' },
        { label: say('compare.energy'), kind: 'number' }, { label: say('compare.a-in-b') }, { label: say('compare.b-in-a') }],
      rows: answer.rows.map((row) => [row.step + 1, cell(row.a), cell(row.b), row.step === answer.first_divergence ? `⚑ ${say('compare.first')}` : row.same ? '=' : '≠',
        { text: row.a ? percent(row.a.probability) : '–', sort: row.a?.probability ?? -1 }, { text: row.b ? percent(row.b.probability) : '–', sort: row.b?.probability ?? -1 },
        row.delta_probability === null ? '–' : fixed(row.delta_probability, 4), row.delta_energy === null ? '–' : fixed(row.delta_energy, 3), ...[row.a_in_b, row.b_in_a].map((entry) => (entry ? `${count(entry.rank)}. · ${percent(entry.probability)}` : '–'))]),
    };
  }

  function swap() {
    const [a, b] = sides.map((fields) => fields.read());
    sides[0].write(b);
    sides[1].write(a);
    house.sides.reverse();
    bench.swap();
    judge();
    frame.address();
  }

  if (bench.lanes.length === 2 && bench.lanes.every((lane) => lane.state === 'done')) judge();
  const send = () => (bench.lane?.trace && exportDialog(bench.lane.trace), true);
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.compare')),
        element('div', { class: 'tools' }, button(say('compare.swap'), swap), button([say('export.title'), element('span', { class: 'key' }, 'e')], send), frame.tableButton())),
      element('div', { class: 'columns two' }, sides.map((fields, at) => element('section', { class: 'card stack', 'aria-label': NAMES[at] }, element('h2', {}, NAMES[at]), fields.root))),
      element('div', { class: 'tools' }, button(say('compare.go'), go, { class: 'primary' })),
      paths.root, verdict),
    tables: () => [answer && differences(), answer && costs(), ...bench.lanes.filter((lane) => lane.trace).map((lane, at) => stepsTable(lane, names(lane, at)))].filter(Boolean),
    go,
    focus: () => sides[0].prompt.focus(),
    values: () => ({ a: JSON.stringify(brief(house.sides[0])), b: JSON.stringify(brief(house.sides[1])), run: bench.lanes.length ? 1 : null, step: bench.step ? bench.step + 1 : null }),
    answer: (action) => (action === 'export' ? send() : paths.answer(action)),
    close: () => paths.close(),
  };
}

/** A side without what is at its default. */
const brief = (request) => Object.fromEntries(Object.entries(request ?? {}).filter(([key, value]) => value !== undefined && JSON.stringify(value) !== JSON.stringify(DEFAULTS[key])));
