// Node screen: a token, its edges without context and in the context of the path, and the nearest nodes.

import { get, post } from '../connection.js';
import { button, element, put } from '../element.js';
import { count, number, percent, t } from '../language.js';
import { ranking } from '../ranking.js';
import { label, shown } from '../token.js';
import { fixed, tokenCell } from '../path_tables.js';

const STEP = 10, MOST = 200;

/** A search field with a list of results; `found(node)` is called with the chosen one. */
export function nodeSearch(model, found) {
  const list = element('ul', { class: 'found', hidden: true, 'aria-label': t('node.found') });
  let waiting, requests = new AbortController();
  const box = element('input', { type: 'search', placeholder: t('node.search_example'), 'aria-label': t('node.search'), oninput: () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 120);
  }, onkeydown: (event) => {
    if (event.key === 'Enter') { event.preventDefault(); list.querySelector('button')?.click() ?? look(true); }
    if (event.key === 'ArrowDown') list.querySelector('button')?.focus();
    if (event.key === 'Escape') list.hidden = true;
  } });

  async function look(first = false) {
    requests.abort();
    requests = new AbortController();
    try {
      const { nodes } = await get('api/v1/nodes', { model: model(), q: box.value, limit: 12 }, requests.signal);
      const take = (node) => { list.hidden = true; box.value = ''; found(node); };
      if (first && nodes[0]) return take(nodes[0]);
      put(list, ...nodes.map((node) => element('li', {}, button([shown(node), element('span', { class: 'soft small figure' }, count(node.count ?? 0))], () => take(node), { class: 'quiet' }))));
      if (!nodes.length) put(list, element('li', { class: 'soft' }, t('node.none')));
      list.hidden = !box.value;
    } catch (error) {
      if (error.name !== 'AbortError') put(list, element('li', {}, error.message));
    }
  }
  return { root: element('div', { class: 'search' }, box, list), focus: () => box.focus() };
}

const edgeRows = (edges) => edges.map((edge) => ({ token: edge.token, fraction: edge.probability, figure: percent(edge.probability), note: `${count(edge.count ?? 0)}×`, kind: edge.edge }));

/** Summarise the edges that are not shown: their number, probability and distribution. */
function restOf(fan, outward) {
  const { rest, total, shown: drawn } = fan;
  const most = Math.max(1, ...rest.histogram.map((bin) => bin.count));
  return element('div', { class: 'stack rest-of' },
    element('p', { class: 'small soft' }, t(outward ? 'node.rest_out' : 'node.rest_in', { shown: count(drawn), total: count(total), percent: percent(rest.probability) }),
      outward && fan.unseen ? ` ${t('node.unseen', { percent: percent(fan.unseen) })}` : ''),
    rest.histogram.length ? element('ol', { class: 'histogram', 'aria-label': t('node.histogram') }, rest.histogram.map((bin) => {
      const fill = element('span', { class: 'histogram-fill', 'aria-hidden': 'true' });
      fill.style.height = `${Math.max(2, (40 * bin.count) / most)}px`;
      return element('li', { title: `${bin.from}–${bin.to}: ${bin.count}` }, element('span', { class: 'small figure' }, count(bin.count)), fill, element('span', { class: 'small soft figure' }, `≥${bin.from}`));
    })) : null);
}

export function node(app, frame) {
  const { paths } = app;
  const chosen = app.node;
  if (!app.graphs.some((model) => model.name === chosen.model)) chosen.model = app.graphs.find((model) => model.name === paths.panel?.trace?.model.name)?.name ?? app.graphs[0]?.name ?? null;
  let shownEdges = STEP;
  let known = null;
  const container = element('div', { class: 'stack' });
  const models = element('select', { onchange: () => { chosen.model = models.value; chosen.id = null; draw(); } }, app.graphs.map((model) => element('option', { value: model.name, selected: model.name === chosen.model }, model.name)));
  const search = nodeSearch(() => chosen.model, (found) => go(found.id));
  let requests = new AbortController();

  function go(id) {
    chosen.id = id;
    draw();
  }

  /** The fan of the node in the context of the path, at its last occurrence up to the selected step. */
  async function inContext(signal) {
    const trace = paths.panel?.trace;
    if (!trace || trace.model.name !== chosen.model) return null;
    const upTo = trace.tokens.slice(0, trace.prompt_tokens + paths.step + 1);
    const at = upTo.map((token) => token.id).lastIndexOf(chosen.id);
    const tokens = at >= 0 ? upTo.slice(0, at + 1) : upTo;
    const fan = await post('api/v1/fan', {
      model: chosen.model, tokens: [...tokens.map((token) => token.id), ...(at >= 0 ? [] : [chosen.id])], prompt_tokens: trace.prompt_tokens,
      k: shownEdges, targets: [], plugins: paths.panel.request.plugins, interventions: trace.interventions, seed: trace.seed,
    }, signal);
    return { fan, on: at >= 0, text: tokens.slice(-8).map(label).join(' ') };
  }

  async function draw() {
    requests.abort();
    requests = new AbortController();
    const { signal } = requests;
    frame.address();
    if (!chosen.model) return put(container, element('p', { class: 'empty' }, t('node.no_graph')));
    try {
      if (chosen.id === null) chosen.id = paths.candidate && paths.panel.trace.model.name === chosen.model ? paths.candidate.id : (await get('api/v1/nodes', { model: chosen.model, limit: 1 }, signal)).nodes[0].id;
      const query = { model: chosen.model, k: shownEdges };
      const [facts, out, into, context] = await Promise.all([
        get(`api/v1/nodes/${chosen.id}`, { model: chosen.model }, signal), get(`api/v1/nodes/${chosen.id}/out`, query, signal), get(`api/v1/nodes/${chosen.id}/in`, query, signal), inContext(signal),
      ]);
      known = { facts, out, into, context };
      frame.address();
      fill();
    } catch (error) {
      if (error.name !== 'AbortError') put(container, element('p', { class: 'empty', role: 'alert' }, error.message));
    }
  }

  function fill() {
    const { facts, out, into, context } = known;
    const fact = (name, value) => element('div', { class: 'fact' }, element('dt', {}, name), element('dd', { class: 'figure' }, value));
    const press = (token) => go(token.id);
    put(container, 
      element('section', { class: 'card node-card' },
        element('div', { class: 'node-name' }, shown(facts)),
        element('dl', { class: 'node-facts' },
          fact(t('table.id'), String(facts.id)), fact(t('table.bytes'), facts.bytes_hex || '–'), fact(t('node.count'), count(facts.count)),
          fact(t('node.out'), count(facts.out_degree)), fact(t('node.in'), count(facts.in_degree)), fact(t('node.own'), count(facts.own_out)),
          fact(t('node.rank'), `${facts.page_rank_position} · ${number(facts.page_rank, 5)}`)),
        element('div', { class: 'tools' }, button([t('node.map'), element('span', { class: 'key' }, 'm')], () => frame.go('map')))),
      element('div', { class: 'columns' },
        element('section', { class: 'card stack' }, element('h2', {}, t('node.static')), element('p', { class: 'soft small' }, t('node.static_note')), ranking(t('node.static'), edgeRows(out.edges), press), restOf(out, true)),
        element('section', { class: 'card stack' }, element('h2', {}, t('node.context')),
          context
            ? [element('p', { class: 'soft small' }, t(context.on ? 'node.context_on' : 'node.context_after', { text: context.text })),
                ranking(t('node.context'), context.fan.candidates.slice(0, shownEdges).map((candidate) => ({ token: candidate, fraction: candidate.probability, figure: percent(candidate.probability), note: number(candidate.energy, 1), kind: candidate.edge })), press),
                element('p', { class: 'small soft' }, t('node.rest_context', { count: count(context.fan.rest.count), percent: percent(context.fan.rest.probability) }))]
            : element('p', { class: 'soft' }, t('node.no_context'))),
        element('section', { class: 'card stack' }, element('h2', {}, t('node.into')), element('p', { class: 'soft small' }, t('node.into_note')), ranking(t('node.into'), edgeRows(into.edges), press), restOf(into, false)),
        element('section', { class: 'card stack' }, element('h2', {}, t('node.nearest')), element('p', { class: 'soft small' }, t('node.nearest_note')),
          ranking(t('node.nearest'), facts.nearest.map((near) => ({ token: near, fraction: near.similarity, figure: number(near.similarity, 2) })), press))));
  }

  const more = (by) => { shownEdges = Math.min(MOST, Math.max(5, shownEdges + by)); draw(); return true; };
  draw();
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.node')),
        element('div', { class: 'tools' }, element('label', { class: 'check' }, element('span', { class: 'soft small' }, t('run.model')), models), search.root,
          element('span', { class: 'soft small' }, t('path.candidates')), button('−', () => more(-5), { 'aria-label': t('key.fewer') }), button('+', () => more(5), { 'aria-label': t('key.more') }), frame.tableButton())),
      container),
    tables() {
      if (!known) return [];
      const edges = (fan, caption) => ({
        caption, columns: [{ label: t('table.token') }, { label: t('table.id'), kind: 'number' }, { label: t('candidate.probability'), kind: 'number' }, { label: t('candidate.resistance'), kind: 'number' }, { label: t('candidate.count'), kind: 'number' }, { label: t('candidate.edge') }],
        rows: fan.edges.map((edge) => [tokenCell(edge.token), edge.token.id, fixed(edge.probability, 6), fixed(edge.resistance, 4), edge.count ?? 0, t(`edge.${edge.edge}`)]),
      });
      return [edges(known.out, t('node.static')),
        known.context && { caption: t('node.context'), columns: [{ label: t('table.token') }, { label: t('table.id'), kind: 'number' }, { label: t('candidate.probability'), kind: 'number' }, { label: t('candidate.energy'), kind: 'number' }], rows: known.context.fan.candidates.map((candidate) => [tokenCell(candidate), candidate.id, fixed(candidate.probability, 6), fixed(candidate.energy, 4)]) },
        edges(known.into, t('node.into')),
        { caption: t('node.nearest'), columns: [{ label: t('table.token') }, { label: t('table.id'), kind: 'number' }, { label: t('node.similarity'), kind: 'number' }], rows: known.facts.nearest.map((near) => [tokenCell(near), near.id, fixed(near.similarity, 4)]) }].filter(Boolean);
    },
    values: () => ({ model: chosen.model, node: chosen.id }),
    answer(action) {
      if (action === 'search') return search.focus(), true;
      if (action === 'more') return more(5);
      if (action === 'fewer') return more(-5);
      if (action === 'back') return frame.go('path'), true;
      return false;
    },
    close: () => requests.abort(),
  };
}
