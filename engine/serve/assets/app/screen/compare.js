// Compare screen: two paths side by side, with the step where they diverge.

import { pathView } from '../path_view.js';
import { post } from '../connection.js';
import { button, element, put } from '../element.js';
import { exportDialog } from '../export.js';
import { form } from '../form.js';
import { count, percent, t } from '../language.js';
import { DEFAULTS } from '../request.js';
import { table } from '../table.js';
import { fixed, stepsTable } from '../path_tables.js';

const NAMES = ['A', 'B'];

/** A request that differs in one thing: the model, or else the seed. */
function other(app, request) {
  const rest = app.models.filter((model) => model.name !== request.model);
  const model = rest.find((each) => each.kind !== app.modelOf(request.model)?.kind) ?? rest[0];
  return model ? { ...request, model: model.name, prompt_ids: undefined } : { ...request, temperature: request.temperature || 0.8, seed: request.seed + 1 };
}

export function compare(app, frame) {
  const { comparison } = app;
  // Sides from the address or from the plugins screen have priority; otherwise they follow the path that was last shown.
  if (!app.sidesGiven && !comparison.panels.length) app.sides = [null, app.paths.panels[1]?.request ?? null];
  app.sidesGiven = false;
  const request = app.sides[0] ?? { ...DEFAULTS, ...app.request, ...(app.paths.panels[0]?.request ?? {}), interventions: [] };
  app.sides = [request, app.sides[1] ?? other(app, request)];
  const sides = NAMES.map((name, at) => {
    const fields = form({ ...app, brief: true, rows: 1, go, name: `side-${at}` });
    fields.write(app.sides[at]);
    return fields;
  });
  const names = (panel, at) => `${NAMES[at] ?? at} · ${panel.request.model ?? ''}`;
  const view = pathView(comparison, { names, forks: false, act: { node: (id) => frame.node(comparison.panel.trace.model.name, id) } });
  const verdict = element('div', { class: 'verdict stack' });
  let answer = null;

  function go() {
    app.sides = sides.map((fields, at) => ({ ...fields.read(), interventions: app.sides[at]?.interventions ?? [] }));
    if (!app.sides.every((side) => side.prompt.trim() || side.prompt_ids)) return sides[0].prompt.focus();
    answer = null;
    put(verdict);
    comparison.clear();
    Object.assign(comparison, { at: 0, step: 0, row: 0 });
    const panels = app.sides.map((side) => comparison.run(side, { keep: true }));
    frame.address();
    frame.rest();
    Promise.all(panels.map((panel) => panel.finished)).then(judge);
  }

  async function judge() {
    const [a, b] = comparison.panels;
    if (!a?.trace?.steps.length || !b?.trace?.steps.length || a.state === 'failed' || b.state === 'failed') return;
    try {
      answer = await post('api/v1/compare', { a: a.trace, b: b.trace });
    } catch (error) {
      put(verdict, element('p', { role: 'alert' }, error.message));
      return;
    }
    const at = answer.first_divergence;
    put(verdict, 
      element('p', { class: 'verdict-line', role: 'status' }, at === null ? t('compare.equal') : t('compare.diverges', { step: at + 1 })),
      table(differences()), table(costs()));
  }

  /** What each side cost and how certain it was of its own path; the time includes the server and the page. */
  function costs() {
    const panels = comparison.panels.slice(0, 2);
    const steps = (panel) => panel.trace.steps;
    const kept = (panel) => steps(panel).at(-1).cache?.reduce((sum, tokens) => sum + tokens, 0) ?? null;
    const perplexity = (panel) => Math.exp(steps(panel).reduce((sum, step) => sum + (step.resistance ?? Infinity), 0) / steps(panel).length);
    const rows = [
      ['compare.steps', (panel) => steps(panel).length, 0],
      ['compare.perplexity', perplexity, 3],
      ['compare.entropy', (panel) => steps(panel).reduce((sum, step) => sum + step.entropy, 0) / steps(panel).length, 3],
      ['compare.cache', kept, 0],
      ['compare.speed', (panel) => (panel.took ? steps(panel).length / panel.took : null), 1],
    ];
    const shown = (value, digits) => (value === null ? '–' : fixed(value, digits));
    return {
      caption: t('compare.costs'),
      columns: [{ label: t('compare.figure') }, { label: 'A', kind: 'number' }, { label: 'B', kind: 'number' }, { label: 'B ÷ A', kind: 'number' }],
      rows: rows.map(([key, of, digits]) => {
        const [a, b] = panels.map(of);
        return [t(key), shown(a, digits), shown(b, digits), a && b !== null ? fixed(b / a, 3) : '–'];
      }),
    };
  }

  function differences() {
    const cell = (entry) => entry?.display ?? '–';
    return {
      caption: t('compare.table'),
      columns: [{ label: t('table.step'), kind: 'number' }, { label: 'A' }, { label: 'B' }, { label: t('compare.same') },
        { label: `${t('candidate.probability')} A`, kind: 'number' }, { label: `${t('candidate.probability')} B`, kind: 'number' }, { label: t('compare.probability'), kind: 'number' },
        { label: t('compare.energy'), kind: 'number' }, { label: t('compare.a_in_b') }, { label: t('compare.b_in_a') }],
      rows: answer.rows.map((row) => [row.step + 1, cell(row.a), cell(row.b), row.step === answer.first_divergence ? `⚑ ${t('compare.first')}` : row.same ? '=' : '≠',
        { text: row.a ? percent(row.a.probability) : '–', sort: row.a?.probability ?? -1 }, { text: row.b ? percent(row.b.probability) : '–', sort: row.b?.probability ?? -1 },
        row.delta_probability === null ? '–' : fixed(row.delta_probability, 4), row.delta_energy === null ? '–' : fixed(row.delta_energy, 3), ...[row.a_in_b, row.b_in_a].map((entry) => (entry ? `${count(entry.rank)}. · ${percent(entry.probability)}` : '–'))]),
    };
  }

  function swap() {
    const [a, b] = sides.map((fields) => fields.read());
    sides[0].write(b);
    sides[1].write(a);
    app.sides.reverse();
    comparison.swap();
    judge();
    frame.address();
  }

  if (comparison.panels.length === 2 && comparison.panels.every((panel) => panel.state === 'done')) judge();
  const send = () => (comparison.panel?.trace && exportDialog(comparison.panel.trace), true);
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.compare')),
        element('div', { class: 'tools' }, button(t('compare.swap'), swap), button([t('export.title'), element('span', { class: 'key' }, 'e')], send), frame.tableButton())),
      element('div', { class: 'columns two' }, sides.map((fields, at) => element('section', { class: 'card stack', 'aria-label': NAMES[at] }, element('h2', {}, NAMES[at]), fields.root))),
      element('div', { class: 'tools' }, button(t('compare.go'), go, { class: 'primary' })),
      view.root, verdict),
    tables: () => [answer && differences(), answer && costs(), ...comparison.panels.filter((panel) => panel.trace).map((panel, at) => stepsTable(panel, names(panel, at)))].filter(Boolean),
    go,
    focus: () => sides[0].prompt.focus(),
    values: () => ({ a: JSON.stringify(brief(app.sides[0])), b: JSON.stringify(brief(app.sides[1])), run: comparison.panels.length ? 1 : null, step: comparison.step ? comparison.step + 1 : null }),
    answer: (action) => (action === 'export' ? send() : view.answer(action)),
    close: () => view.close(),
  };
}

/** A side without default values. */
const brief = (request) => Object.fromEntries(Object.entries(request ?? {}).filter(([key, value]) => value !== undefined && JSON.stringify(value) !== JSON.stringify(DEFAULTS[key])));
