// The view of a path set, for the path and compare screens: text above, panels, scrubber below, inspector at the side.

import { announce } from './announcer.js';
import { ask, notice } from './dialog.js';
import { button, element, put } from './element.js';
import { inspector } from './inspector.js';
import { pathDrawing } from './path_drawing.js';
import { number, percent, t } from './language.js';
import { scrubber } from './scrubber.js';
import { pathText } from './path_text.js';
import { effectiveTheme, watchTheme } from './theme.js';
import { label } from './token.js';
import { divergence, sourceOf, toggle, describeIntervention, tokenOf } from './trace.js';

/** The view of a path set. `names(panel, at)` returns the title of a panel; `act` has `node(id)`. */
export function pathView(paths, { names, act, forks = true }) {
  const panels = element('div', { class: 'panels' });
  const scroller = element('div', { class: 'panels-scroll', 'data-scroll': '' }, panels);
  let views = new Map();
  let zoom = 1;
  let frame = 0;
  // A fork is selected as soon as it has reached the step where it was forked.
  let awaited = null;
  const grown = new Set();

  const inspectorActions = { fork, pin, group, node: act.node };
  const text = pathText(paths);
  const inspectorView = inspector(paths, inspectorActions, (attribution) => text.underline(attribution));
  const scrub = scrubber(paths);
  const legend = element('p', { class: 'legend-row soft small' },
    ['chosen', 'seen', 'own', 'shared'].map((kind) => element('span', { class: 'legend' }, element('span', { class: `key-edge ${kind}` }), t(kind === 'chosen' ? 'legend.chosen' : `edge.${kind}`))),
    element('span', { class: 'legend' }, t('legend.thickness')),
    element('span', { class: 'legend' }, t('legend.less'), element('span', { class: 'ramp' }), t('legend.more')));
  const root = element('div', { class: 'path-view' },
    element('div', { class: 'path-view-main stack' }, element('div', { class: 'card path-text-card' }, text.root),
      element('div', { class: 'card panels-card' }, scroller, scrub.root, legend)), inspectorView.root);

  function fork(intervention) {
    const panel = paths.panel;
    if (!panel?.trace) return;
    const { chosen } = paths.current ?? {};
    if (intervention.kind === 'force' && intervention.node === chosen) return notice(t('fork.same'));
    const request = { ...panel.request, interventions: [...panel.request.interventions, intervention] };
    if (panel.state === 'done') request.tokens = Math.max(panel.request.tokens, panel.trace.steps.length);
    const started = paths.run(request, { fork: { from: panel.key, step: paths.step, intervention } });
    announce(t('fork.started', { step: paths.step + 1 }));
    started.finished.then(() => {
      if (started.state !== 'done') return;
      const diverged = divergence(panel.trace, started.trace);
      announce(diverged === null ? t('fork.equal') : t('fork.diverges', { step: diverged + 1 }));
    });
    if (forks) awaited = started;
  }

  function pin() {
    const { panel, current: step, candidate } = paths;
    if (!candidate) return;
    const there = toggle(panel.trace.annotations.pins, step.index, candidate.id);
    announce(t(there ? 'pin.added' : 'pin.removed', { token: label(candidate), step: step.index + 1 }));
    paths.mark();
  }

  async function group() {
    const { panel, current: step, candidate } = paths;
    if (!candidate) return;
    const { groups } = panel.trace.annotations;
    const name = await ask(t('group.title'), t('group.name'), groups.at(-1)?.name ?? '');
    if (!name) return;
    let found = groups.find((each) => each.name === name);
    if (!found) groups.push((found = { name, members: [] }));
    toggle(found.members, step.index, candidate.id);
    found.members.length || groups.splice(groups.indexOf(found), 1);
    announce(t('group.changed', { token: label(candidate), name }));
    paths.mark();
  }

  function head(panel, at) {
    const changes = panel.trace?.interventions.map((each) => describeIntervention(each, (id) => label(tokenOf(panel.trace, id)))).join('; ');
    const steps = panel.trace?.steps.length ?? 0;
    const state = panel.state === 'failed' ? panel.error
      : panel.took ? t(`panel.${panel.state}_timed`, { steps, seconds: number(panel.took, panel.took < 10 ? 2 : 1), speed: number(steps / panel.took, 0) }) : t(`panel.${panel.state}`, { steps });
    return element('div', { class: 'panel-head' },
      element('h2', {}, names(panel, at)), changes ? element('span', { class: 'small' }, changes) : null,
      element('span', { class: `soft small figure ${panel.state === 'failed' ? 'failed' : ''}`, role: panel.state === 'failed' ? 'alert' : null }, state),
      panel.state === 'running' ? button(t('run.stop'), () => panel.controller.abort(), { class: 'tiny' }) : null,
      at > 0 && forks ? button('✕', () => paths.drop(at), { class: 'quiet tiny', 'aria-label': t('fork.remove'), title: `${t('fork.remove')} (x)` }) : null);
  }

  function rebuild() {
    const old = views;
    views = new Map();
    put(panels, ...paths.panels.map((panel, at) => {
      const box = element('section', { class: 'panel', 'data-panel': at }, head(panel, at));
      if (panel.trace) {
        const kept = old.get(panel.key);
        const view = kept?.trace === panel.trace && kept.shown === paths.shown && kept.at === at && kept.theme === effectiveTheme() ? kept
          : Object.assign(pathDrawing(panel, {
              shown: paths.shown, name: names(panel, at),
              press: (step, row) => { paths.select({ at, step, row }); views.get(panel.key).focus(); },
              enter: (step, row) => { paths.select({ at, step, row }); enter(); },
            }), { trace: panel.trace, shown: paths.shown, at, theme: effectiveTheme() });
        view.zoom(zoom);
        view.grow();
        views.set(panel.key, view);
        box.append(view.root);
      }
      return box;
    }));
    panels.append(...(paths.panels.length ? [] : [element('p', { class: 'empty' }, t('path.empty'))]));
    markDivergence();
    pins();
    text.draw();
    scrub.draw();
    mark(false);
  }

  /** Mark in each panel after the first where it diverges from the panel that it came from. */
  function markDivergence() {
    paths.panels.forEach((panel, at) => {
      const from = panel.fork ? paths.panels.find((other) => other.key === panel.fork.from) ?? paths.panels[0] : paths.panels[0];
      if (at && panel.trace && from.trace) views.get(panel.key)?.markDivergence(divergence(from.trace, panel.trace));
    });
  }

  const pins = () => paths.panels.forEach((panel) => panel.trace && views.get(panel.key)?.pinned(panel.trace.annotations));

  /** Follow the selection; the costly parts wait for the next frame, so that held keys do not queue up. */
  function mark(announced = true) {
    paths.panels.forEach((panel, at) => views.get(panel.key)?.mark(paths.step, paths.row, at === paths.at));
    scrub.mark();
    text.mark();
    const view = paths.panel && views.get(paths.panel.key);
    if (view && (document.activeElement === document.body || document.activeElement.contains(panels) || panels.contains(document.activeElement))) view.focus();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      // Reading the layout comes first, changing it second.
      if (view && paths.current) reveal(view);
      inspectorView.draw();
    });
    if (announced && paths.candidate) {
      const source = sourceOf(paths.panel.trace, paths.current);
      announce(t('announce.step', {
        step: paths.step + 1, source: source ? label(source) : '', token: label(paths.candidate), energy: number(paths.candidate.energy), percent: percent(paths.candidate.probability),
      }));
    }
  }

  function reveal(view) {
    const { left, right } = view.span(paths.step);
    const width = scroller.clientWidth;
    if (left < scroller.scrollLeft) scroller.scrollLeft = left;
    else if (right > scroller.scrollLeft + width) scroller.scrollLeft = right - width;
  }

  function enter() {
    if (paths.candidate) fork({ kind: 'force', step: paths.step, node: paths.candidate.id });
  }

  function setZoom(to) {
    zoom = Math.min(2, Math.max(0.35, to));
    views.forEach((view) => view.zoom(zoom));
    if (paths.panel && views.get(paths.panel.key)) reveal(views.get(paths.panel.key));
  }

  /** Steps arrive faster than frames: all steps since the last frame are drawn together. */
  function grow({ detail: panel }) {
    if (!grown.size) requestAnimationFrame(() => {
      const panels = [...grown];
      grown.clear();
      if (!listening.signal.aborted) panels.forEach(drawGrown);
    });
    grown.add(panel);
  }

  function drawGrown(panel) {
    const view = views.get(panel.key);
    if (!view) return;
    const had = view.columns.length;
    view.grow();
    markDivergence();
    if (panel === awaited && panel.trace.steps.length > paths.step) {
      awaited = null;
      return paths.select({ at: paths.panels.indexOf(panel), step: paths.step });
    }
    if (panel === paths.panel) {
      scrub.draw();
      text.draw();
      if (had <= paths.step) mark(false);
    }
  }

  const listening = new AbortController();
  const on = (name, listener) => paths.addEventListener(name, listener, { signal: listening.signal });
  on('panels', rebuild);
  on('shown', rebuild);
  on('grow', grow);
  on('select', () => mark());
  on('marks', () => { pins(); inspectorView.draw(); });
  const unwatch = watchTheme(rebuild);
  rebuild();

  const actions = {
    'step_back': () => paths.select({ step: paths.step - 1 }),
    'step_forward': () => paths.select({ step: paths.step + 1 }),
    'candidate_up': () => paths.select({ row: paths.row - 1 }),
    'candidate_down': () => paths.select({ row: paths.row + 1 }),
    first: () => paths.select({ step: 0 }),
    last: () => paths.select({ step: Infinity }),
    fork: enter,
    play: () => scrub.toggle(),
    pin,
    group,
    node: () => paths.candidate && act.node(paths.candidate.id),
    panel: () => paths.panels.length > 1 && paths.select({ at: (paths.at + 1) % paths.panels.length, step: paths.step }),
    'remove_fork': () => forks && paths.drop(paths.at),
    zoom_in: () => setZoom(zoom * 1.25),
    zoom_out: () => setZoom(zoom / 1.25),
    zoom_reset: () => setZoom(1),
    more: () => paths.show(paths.shown + 2),
    fewer: () => paths.show(paths.shown - 2),
    back: () => { scrub.stop(); paths.stop(); return true; },
  };
  return {
    root,
    answer(action) {
      if (!actions[action] || !paths.panels.length) return false;
      actions[action]();
      return true;
    },
    close() {
      scrub.stop();
      unwatch();
      listening.abort();
    },
  };
}
