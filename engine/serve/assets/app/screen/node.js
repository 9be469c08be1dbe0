// Node: one token, its fan without a context and in the one looked at, what leads to it, what lies near.

import { get, post } from '../connection.js';
import { button, element, put } from '../element.js';
import { count, number, percent, say } from '../language.js';
import { ranking } from '../ranking.js';
import { label, shown } from '../token.js';
import { fixed, tokenCell } from '../twin.js';

const STEP = 10, MOST = 200;

/** The search for a node: a box whose list follows; `found(node)` hears which was taken. */
export function nodeSearch(model, found) {
  const list = element('ul', { class: 'found', hidden: true, 'aria-label': say('node.found') });
  let waiting, requests = new AbortController();
  const box = element('input', { type: 'search', placeholder: say('node.search-example'), 'aria-label': say('node.search'), oninput: () => {
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
      if (!nodes.length) put(list, element('li', { class: 'soft' }, say('node.none')));
      list.hidden = !box.value;
    } catch (error) {
      if (error.name !== 'AbortError') put(list, element('li', {}, error.message));
    }
  }
  return { root: element('div', { class: 'search' }, box, list), focus: () => box.focus() };
}

const edgeRows = (edges) => edges.map((edge) => ({ token: edge.token, share: edge.probability, figure: percent(edge.probability), note: `${count(edge.count ?? 0)}×`, kind: edge.edge }));

/** What is not shown of a fan is said: how much, and how it spreads. */
function restOf(fan, outward) {
  const { rest, total, shown: drawn } = fan;
  const most = Math.max(1, ...rest.histogram.map((bin) => bin.count));
  return element('div', { class: 'stack rest-of' },
    element('p', { class: 'small soft' }, say(outward ? 'node.rest-out' : 'node.rest-in', { shown: count(drawn), total: count(total), percent: percent(rest.probability) }),
      outward && fan.unseen ? ` ${say('node.unseen', { percent: percent(fan.unseen) })}` : ''),
    rest.histogram.length ? element('ol', { class: 'histogram', 'aria-label': say('node.histogram') }, rest.histogram.map((bin) => {
      const fill = element('span', { class: 'histogram-fill', 'aria-hidden': 'true' });
      fill.style.height = `${Math.max(2, (40 * bin.count) / most)}px`;
      return element('li', { title: `${bin.from}–${bin.to}: ${bin.count}` }, element('span', { class: 'small figure' }, count(bin.count)), fill, element('span', { class: 'small soft figure' }, `≥${bin.from}`));
    })) : null);
}

export function node(house, frame) {
  const { desk } = house;
  const chosen = house.node;
  if (!house.graphs.some((model) => model.name === chosen.model)) chosen.model = house.graphs.find((model) => model.name === desk.lane?.trace?.model.name)?.name ?? house.graphs[0]?.name ?? null;
  let shownEdges = STEP;
  let known = null;
  const place = element('div', { class: 'stack' });
  const models = element('select', { onchange: () => { chosen.model = models.value; chosen.id = null; draw(); } }, house.graphs.map((model) => element('option', { value: model.name, selected: model.name === chosen.model }, model.name)));
  const search = nodeSearch(() => chosen.model, (found) => go(found.id));
  let requests = new AbortController();

  function go(id) {
    chosen.id = id;
    draw();
  }

  /** The fan of this node in the path looked at: where the path stands on it last, up to the step looked at. */
  async function inContext(signal) {
    const trace = desk.lane?.trace;
    if (!trace || trace.model.name !== chosen.model) return null;
    const upTo = trace.tokens.slice(0, trace.prompt_tokens + desk.step + 1);
    const at = upTo.map((token) => token.id).lastIndexOf(chosen.id);
    const tokens = at >= 0 ? upTo.slice(0, at + 1) : upTo;
    const fan = await post('api/v1/fan', {
      model: chosen.model, tokens: [...tokens.map((token) => token.id), ...(at >= 0 ? [] : [chosen.id])], prompt_tokens: trace.prompt_tokens,
      k: shownEdges, targets: [], plugins: desk.lane.request.plugins, interventions: trace.interventions, seed: trace.seed,
    }, signal);
    return { fan, on: at >= 0, text: tokens.slice(-8).map(label).join(' ') };
  }

  async function draw() {
    requests.abort();
    requests = new AbortController();
    const { signal } = requests;
    frame.address();
    if (!chosen.model) return put(place, element('p', { class: 'empty' }, say('node.no-graph')));
    try {
      if (chosen.id === null) chosen.id = desk.candidate && desk.lane.trace.model.name === chosen.model ? desk.candidate.id : (await get('api/v1/nodes', { model: chosen.model, limit: 1 }, signal)).nodes[0].id;
      const query = { model: chosen.model, k: shownEdges };
      const [facts, out, into, context] = await Promise.all([
        get(`api/v1/nodes/${chosen.id}`, { model: chosen.model }, signal), get(`api/v1/nodes/${chosen.id}/out`, query, signal), get(`api/v1/nodes/${chosen.id}/in`, query, signal), inContext(signal),
      ]);
      known = { facts, out, into, context };
      frame.address();
      fill();
    } catch (error) {
      if (error.name !== 'AbortError') put(place, element('p', { class: 'empty', role: 'alert' }, error.message));
    }
  }

  function fill() {
    const { facts, out, into, context } = known;
    const fact = (name, value) => element('div', { class: 'fact' }, element('dt', {}, name), element('dd', { class: 'figure' }, value));
    const press = (token) => go(token.id);
    put(place, 
      element('section', { class: 'card node-card' },
        element('div', { class: 'node-name' }, shown(facts)),
        element('dl', { class: 'node-facts' },
          fact(say('table.id'), String(facts.id)), fact(say('table.bytes'), facts.bytes_hex || '–'), fact(say('node.count'), count(facts.count)),
          fact(say('node.out'), count(facts.out_degree)), fact(say('node.in'), count(facts.in_degree)), fact(say('node.own'), count(facts.own_out)),
          fact(say('node.rank'), `${facts.page_rank_position} · ${number(facts.page_rank, 5)}`)),
        element('div', { class: 'tools' }, button([say('node.map'), element('span', { class: 'key' }, 'm')], () => frame.go('map')))),
      element('div', { class: 'columns' },
        element('section', { class: 'card stack' }, element('h2', {}, say('node.static')), element('p', { class: 'soft small' }, say('node.static-note')), ranking(say('node.static'), edgeRows(out.edges), press), restOf(out, true)),
        element('section', { class: 'card stack' }, element('h2', {}, say('node.context')),
          context
            ? [element('p', { class: 'soft small' }, say(context.on ? 'node.context-on' : 'node.context-after', { text: context.text })),
                ranking(say('node.context'), context.fan.candidates.slice(0, shownEdges).map((candidate) => ({ token: candidate, share: candidate.probability, figure: percent(candidate.probability), note: number(candidate.energy, 1), kind: candidate.edge })), press),
                element('p', { class: 'small soft' }, say('node.rest-context', { count: count(context.fan.rest.count), percent: percent(context.fan.rest.probability) }))]
            : element('p', { class: 'soft' }, say('node.no-context'))),
        element('section', { class: 'card stack' }, element('h2', {}, say('node.into')), element('p', { class: 'soft small' }, say('node.into-note')), ranking(say('node.into'), edgeRows(into.edges), press), restOf(into, false)),
        element('section', { class: 'card stack' }, element('h2', {}, say('node.nearest')), element('p', { class: 'soft small' }, say('node.nearest-note')),
          ranking(say('node.nearest'), facts.nearest.map((near) => ({ token: near, share: near.similarity, figure: number(near.similarity, 2) })), press))));
  }

  const more = (by) => { shownEdges = Math.min(MOST, Math.max(5, shownEdges + by)); draw(); return true; };
  draw();
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.node')),
        element('div', { class: 'tools' }, element('label', { class: 'check' }, element('span', { class: 'soft small' }, say('run.model')), models), search.root,
          element('span', { class: 'soft small' }, say('path.candidates')), button('−', () => more(-5), { 'aria-label': say('key.fewer') }), button('+', () => more(5), { 'aria-label': say('key.more') }), frame.tableButton())),
      place),
    tables() {
      if (!known) return [];
      const edges = (fan, caption) => ({
        caption, columns: [{ label: say('table.token') }, { label: say('table.id'), kind: 'number' }, { label: say('candidate.probability'), kind: 'number' }, { label: say('candidate.resistance'), kind: 'number' }, { label: say('candidate.count'), kind: 'number' }, { label: say('candidate.edge') }],
        rows: fan.edges.map((edge) => [tokenCell(edge.token), edge.token.id, fixed(edge.probability, 6), fixed(edge.resistance, 4), edge.count ?? 0, say(`edge.${edge.edge}`)]),
      });
      return [edges(known.out, say('node.static')),
        known.context && { caption: say('node.context'), columns: [{ label: say('table.token') }, { label: say('table.id'), kind: 'number' }, { label: say('candidate.probability'), kind: 'number' }, { label: say('candidate.energy'), kind: 'number' }], rows: known.context.fan.candidates.map((candidate) => [tokenCell(candidate), candidate.id, fixed(candidate.probability, 6), fixed(candidate.energy, 4)]) },
        edges(known.into, say('node.into')),
        { caption: say('node.nearest'), columns: [{ label: say('table.token') }, { label: say('table.id'), kind: 'number' }, { label: say('node.similarity'), kind: 'number' }], rows: known.facts.nearest.map((near) => [tokenCell(near), near.id, fixed(near.similarity, 4)]) }].filter(Boolean);
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
