// Map screen: the whole graph as clusters, or its nodes and edges when zoomed in.

import { announce } from '../announcer.js';
import { get } from '../connection.js';
import { button, element, put } from '../element.js';
import { count, t } from '../language.js';
import { hasWebGl, mapCanvas } from '../map/canvas.js';
import { ego } from '../map/ego.js';
import { lasso } from '../map/lasso.js';
import { watchTheme } from '../theme.js';
import { fixed } from '../path_tables.js';
import { nodeSearch } from './node.js';

const LEVELS = ['auto', '0', '1', '2', 'ego'];

export function map(app, frame) {
  const { paths, node: chosen } = app;
  if (!app.graphs.some((model) => model.name === chosen.model)) chosen.model = app.graphs.find((model) => model.name === paths.panel?.trace?.model.name)?.name ?? app.graphs[0]?.name ?? null;
  const view = { level: 'auto', k: 5, minimum: 0, frequency: 0, kind: '', path: true, ...(app.mapView ?? {}) };
  app.mapView = view;
  let canvas = null, shown = null, fans = null, requests = new AbortController(), closed = false;
  let box = null, ratio = 1, selected = new Set();

  const container = element('div', { class: 'map-canvas', role: 'img', 'aria-label': t('map.title') });
  const around = element('div', { class: 'card ego-card', hidden: true });
  const state = element('p', { class: 'soft small figure', role: 'status' });
  const pick = (label, control) => element('label', { class: 'check' }, element('span', { class: 'soft small' }, label), control);
  const models = element('select', { onchange: () => { chosen.model = models.value; chosen.id = null; selected = new Set(); box = null; canvas?.refit(); load(); } }, app.graphs.map((model) => element('option', { value: model.name, selected: model.name === chosen.model }, model.name)));
  const levels = element('select', { onchange: () => { view.level = levels.value; load(); } }, LEVELS.map((level) => element('option', { value: level, selected: level === view.level }, t(`map.level_${level}`))));
  const kBox = element('input', { type: 'range', min: 1, max: 50, value: view.k, oninput: () => { view.k = Number(kBox.value); clearTimeout(kBox.waiting); kBox.waiting = setTimeout(load, 200); } });
  const minimum = element('input', { type: 'number', min: 0, step: 1, value: view.minimum, onchange: () => { view.minimum = Math.max(0, Math.round(Number(minimum.value)) || 0); load(); } });
  const frequency = element('input', { type: 'number', min: 0, step: 1, value: view.frequency, onchange: () => { view.frequency = Math.max(0, Math.round(Number(frequency.value)) || 0); load(); } });
  const kinds = element('select', { onchange: () => { view.kind = kinds.value; load(); } }, ['', 'own', 'seen'].map((kind) => element('option', { value: kind, selected: kind === view.kind }, t(`map.kind_${kind || 'all'}`))));
  const path = element('input', { type: 'checkbox', checked: view.path, onchange: () => { view.path = path.checked; draw(); } });
  const search = nodeSearch(() => chosen.model, (found) => { chosen.id = found.id; around.hidden = false; surroundings(); draw(); });

  const levelNow = () => (view.level === 'auto' ? (ratio > 1.1 ? 0 : ratio > 0.3 ? 1 : 2) : Number(view.level));
  const pathIds = () => (view.path && paths.panel?.trace?.model.name === chosen.model ? paths.panel.trace.tokens.map((token) => token.id) : []);

  async function load() {
    requests.abort();
    requests = new AbortController();
    frame.address();
    if (!chosen.model) return put(state, t('node.no_graph'));
    try {
      if (!canvas || view.level === 'ego') {
        container.hidden = true;
        around.hidden = false;
        return await surroundings();
      }
      container.hidden = false;
      const level = levelNow();
      shown = await get('api/v1/map', { model: chosen.model, level, k: view.k, minimum: view.minimum, frequency: view.frequency, kind: view.kind || undefined, ...(level && box ? box : {}) }, requests.signal);
      draw();
      if (!around.hidden) await surroundings();
    } catch (error) {
      if (error.name !== 'AbortError') put(state, error.message);
    }
  }

  function draw() {
    if (!shown || !canvas || closed) return;
    canvas.show(shown, pathIds(), chosen.id, selected);
    container.dataset.nodes = shown.clusters.length || shown.nodes.length;
    state.textContent = selected.size ? t('map.selected', { nodes: count(selected.size) }) : shown.clusters.length
      ? t('map.shown_clusters', { clusters: count(shown.clusters.length), edges: count(shown.edges.length), nodes: count(shown.total.nodes), all: count(shown.total.edges) })
      : t('map.shown', { nodes: count(shown.nodes.length), total: count(shown.total.nodes), edges: count(shown.edges.length), all: count(shown.total.edges) });
  }

  async function surroundings() {
    if (chosen.id === null) chosen.id = (await get('api/v1/nodes', { model: chosen.model, limit: 1 }, requests.signal)).nodes[0].id;
    const query = { model: chosen.model, k: Math.min(24, Math.max(4, view.k)) };
    const [facts, out, into] = await Promise.all([get(`api/v1/nodes/${chosen.id}`, { model: chosen.model }, requests.signal), get(`api/v1/nodes/${chosen.id}/out`, query, requests.signal), get(`api/v1/nodes/${chosen.id}/in`, query, requests.signal)]);
    fans = { facts, out, into };
    put(around, 
      element('div', { class: 'screen-head' }, element('h2', {}, t('map.around')), element('div', { class: 'tools' },
        button([t('inspector.node'), element('span', { class: 'key' }, 'n')], () => frame.node(chosen.model, chosen.id)),
        canvas && view.level !== 'ego' ? button('✕', () => { around.hidden = true; }, { class: 'quiet', 'aria-label': t('dialog.close') }) : null)),
      element('div', { class: 'ego-scroll' }, ego(facts, out, into, (id) => { chosen.id = id; surroundings(); frame.address(); })),
      element('p', { class: 'soft small' }, t('node.rest_out', { shown: count(out.shown), total: count(out.total), percent: `${(100 * out.rest.probability).toFixed(1)} %` })));
    if (!canvas) state.textContent = t('map.no_webgl');
  }

  function press(key) {
    if (key.startsWith('c')) {
      const cluster = shown.clusters.find((each) => `c${each.id}` === key);
      announce(`${cluster.label}: ${count(cluster.nodes)}`);
      canvas.sigma.getCamera().animate({ ...canvas.sigma.getNodeDisplayData(key), ratio: 0.4 }, { duration: 200 });
      return;
    }
    chosen.id = Number(key);
    around.hidden = false;
    surroundings().catch((error) => { state.textContent = error.message; });
    draw();
  }

  async function start() {
    if (hasWebGl()) {
      try {
        canvas = await mapCanvas(container, { press, moved: (to, at) => {
          const before = levelNow();
          box = to;
          ratio = at;
          if (levelNow() || before) load();
        } });
      } catch {
        canvas = null;
      }
    }
    if (closed) return canvas?.close();
    if (canvas) lasso(container, (rectangle) => {
      selected = canvas.within(rectangle);
      draw();
      announce(t('map.selected', { nodes: count(selected.size) }));
    });
    await load();
  }
  const unwatch = watchTheme(draw);
  // The container must be in the page before a canvas can be measured.
  queueMicrotask(start);

  const more = (by) => { view.k = Math.min(50, Math.max(1, view.k + by)); kBox.value = view.k; load(); return true; };
  const actions = {
    search: () => search.focus(), zoom_in: () => canvas?.zoom(1.5), zoom_out: () => canvas?.zoom(1 / 1.5), zoom_reset: () => canvas?.zoom(0),
    'step_back': () => canvas?.pan(-0.1, 0), 'step_forward': () => canvas?.pan(0.1, 0), 'candidate_up': () => canvas?.pan(0, 0.1), 'candidate_down': () => canvas?.pan(0, -0.1),
    more: () => more(1), fewer: () => more(-1), node: () => chosen.id !== null && frame.node(chosen.model, chosen.id),
    back: () => { if (selected.size) { selected = new Set(); draw(); } else if (around.hidden || !canvas) frame.go('path'); else around.hidden = true; },
  };
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.map')),
        element('div', { class: 'tools' }, pick(t('run.model'), models), pick(t('map.level'), levels), pick(t('map.k'), kBox), pick(t('map.minimum'), minimum), pick(t('map.frequency'), frequency), pick(t('map.kind'), kinds), element('label', { class: 'check' }, path, t('map.path')), search.root, frame.tableButton())),
      element('div', { class: 'map-grid' }, container, around), state),
    tables() {
      if (!canvas || view.level === 'ego') {
        if (!fans) return [];
        return [['node.static', fans.out], ['node.into', fans.into]].map(([key, fan]) => ({ caption: t(key), columns: [{ label: t('table.token') }, { label: t('candidate.probability'), kind: 'number' }, { label: t('candidate.count'), kind: 'number' }], rows: fan.edges.map((edge) => [edge.token.display, fixed(edge.probability, 6), edge.count ?? 0]) }));
      }
      if (!shown) return [];
      const kept = (key) => !selected.size || selected.has(key);
      const names = new Map([...shown.nodes.map((node) => [node.id, node.display])]);
      const clusters = new Map(shown.clusters.map((cluster) => [cluster.id, cluster.label]));
      const spots = shown.clusters.length
        ? { caption: t('map.clusters'), columns: [{ label: t('map.cluster') }, { label: t('map.nodes'), kind: 'number' }, { label: t('node.count'), kind: 'number' }], rows: shown.clusters.filter((cluster) => kept(`c${cluster.id}`)).map((cluster) => [cluster.label, cluster.nodes, cluster.count]) }
        : { caption: t('map.nodes'), columns: [{ label: t('table.token') }, { label: t('table.id'), kind: 'number' }, { label: t('node.count'), kind: 'number' }, { label: t('map.cluster'), kind: 'number' }], rows: shown.nodes.filter((node) => kept(String(node.id))).slice(0, 1000).map((node) => [node.display, node.id, node.size, node.cluster]) };
      const edges = { caption: t('map.edges'), columns: [{ label: t('table.source') }, { label: t('table.target') }, { label: t('table.weight'), kind: 'number' }], rows: shown.edges.filter((edge) => [edge.source, edge.target].every((end) => kept(shown.clusters.length ? `c${end}` : String(end)))).slice(0, 1000).map((edge) => [clusters.get(edge.source) ?? names.get(edge.source) ?? edge.source, clusters.get(edge.target) ?? names.get(edge.target) ?? edge.target, fixed(edge.weight, 5)]) };
      return [spots, edges];
    },
    values: () => ({ model: chosen.model, node: chosen.id, level: view.level === 'auto' ? null : view.level, k: view.k === 5 ? null : view.k }),
    answer: (action) => Boolean(actions[action]) && (actions[action](), true),
    close() {
      closed = true;
      requests.abort();
      unwatch();
      canvas?.close();
    },
  };
}
