// Paths side by side with the text above, the scrubber below and the inspector beside: the body of the screens
// that look at paths.

import { announce } from './announcer.js';
import { ask, notice } from './dialog.js';
import { button, element, put } from './element.js';
import { inspector } from './inspector.js';
import { laneDrawing } from './lane.js';
import { number, percent, say } from './language.js';
import { scrubber } from './scrubber.js';
import { strip } from './strip.js';
import { seenTheme, watchTheme } from './theme.js';
import { label } from './token.js';
import { divergence, sourceOf, toggle, told, tokenOf } from './trace.js';

/** The board of a desk. `names(lane, at)` names a lane; `act` holds what leads elsewhere: `node(id)`. */
export function board(desk, { names, act, forks = true }) {
  const lanes = element('div', { class: 'lanes' });
  const scroller = element('div', { class: 'lanes-scroll', 'data-scroll': '' }, lanes);
  let views = new Map();
  let zoom = 1;
  let frame = 0;
  // A fork is looked at as soon as it has come as far as the step it was asked for.
  let awaited = null;
  const grown = new Set();

  const doing = { fork, pin, group, node: act.node };
  const text = strip(desk);
  const facts = inspector(desk, doing, (attribution) => text.share(attribution));
  const scrub = scrubber(desk);
  const legend = element('p', { class: 'legend-row soft small' },
    ['chosen', 'seen', 'own', 'shared'].map((kind) => element('span', { class: 'legend' }, element('span', { class: `key-edge ${kind}` }), say(kind === 'chosen' ? 'legend.chosen' : `edge.${kind}`))),
    element('span', { class: 'legend' }, say('legend.thickness')),
    element('span', { class: 'legend' }, say('legend.less'), element('span', { class: 'ramp' }), say('legend.more')));
  const root = element('div', { class: 'board' },
    element('div', { class: 'board-main stack' }, element('div', { class: 'card strip-card' }, text.root),
      element('div', { class: 'card lanes-card' }, scroller, scrub.root, legend)), facts.root);

  function fork(intervention) {
    const lane = desk.lane;
    if (!lane?.trace) return;
    const { chosen } = desk.current ?? {};
    if (intervention.kind === 'force' && intervention.node === chosen) return notice(say('fork.same'));
    const request = { ...lane.request, interventions: [...lane.request.interventions, intervention] };
    if (lane.state === 'done') request.tokens = Math.max(lane.request.tokens, lane.trace.steps.length);
    const started = desk.run(request, { fork: { from: lane.key, step: desk.step, intervention } });
    announce(say('fork.started', { step: desk.step + 1 }));
    started.finished.then(() => {
      if (started.state !== 'done') return;
      const parted = divergence(lane.trace, started.trace);
      announce(parted === null ? say('fork.equal') : say('fork.parts', { step: parted + 1 }));
    });
    if (forks) awaited = started;
  }

  function pin() {
    const { lane, current: step, candidate } = desk;
    if (!candidate) return;
    const there = toggle(lane.trace.annotations.pins, step.index, candidate.id);
    announce(say(there ? 'pin.put' : 'pin.taken', { token: label(candidate), step: step.index + 1 }));
    desk.mark();
  }

  async function group() {
    const { lane, current: step, candidate } = desk;
    if (!candidate) return;
    const { groups } = lane.trace.annotations;
    const name = await ask(say('group.title'), say('group.name'), groups.at(-1)?.name ?? '');
    if (!name) return;
    let found = groups.find((each) => each.name === name);
    if (!found) groups.push((found = { name, members: [] }));
    toggle(found.members, step.index, candidate.id);
    found.members.length || groups.splice(groups.indexOf(found), 1);
    announce(say('group.put', { token: label(candidate), name }));
    desk.mark();
  }

  function head(lane, at) {
    const told_ = lane.trace?.interventions.map((each) => told(each, say, (id) => label(tokenOf(lane.trace, id)))).join('; ');
    const steps = lane.trace?.steps.length ?? 0;
    const state = lane.state === 'failed' ? lane.error
      : lane.took ? say(`lane.${lane.state}-took`, { steps, seconds: number(lane.took, lane.took < 10 ? 2 : 1), speed: number(steps / lane.took, 0) }) : say(`lane.${lane.state}`, { steps });
    return element('div', { class: 'lane-head' },
      element('h2', {}, names(lane, at)), told_ ? element('span', { class: 'small' }, told_) : null,
      element('span', { class: `soft small figure ${lane.state === 'failed' ? 'failed' : ''}`, role: lane.state === 'failed' ? 'alert' : null }, state),
      lane.state === 'running' ? button(say('run.stop'), () => lane.controller.abort(), { class: 'tiny' }) : null,
      at > 0 && forks ? button('✕', () => desk.drop(at), { class: 'quiet tiny', 'aria-label': say('fork.drop'), title: `${say('fork.drop')} (x)` }) : null);
  }

  function rebuild() {
    const old = views;
    views = new Map();
    put(lanes, ...desk.lanes.map((lane, at) => {
      const box = element('section', { class: 'lane', 'data-lane': at }, head(lane, at));
      if (lane.trace) {
        const kept = old.get(lane.key);
        const view = kept?.trace === lane.trace && kept.shown === desk.shown && kept.at === at && kept.theme === seenTheme() ? kept
          : Object.assign(laneDrawing(lane, {
              shown: desk.shown, name: names(lane, at),
              press: (step, row) => { desk.select({ at, step, row }); views.get(lane.key).focus(); },
              enter: (step, row) => { desk.select({ at, step, row }); enter(); },
            }), { trace: lane.trace, shown: desk.shown, at, theme: seenTheme() });
        view.zoom(zoom);
        view.grow();
        views.set(lane.key, view);
        box.append(view.root);
      }
      return box;
    }));
    lanes.append(...(desk.lanes.length ? [] : [element('p', { class: 'empty' }, say('path.empty'))]));
    part();
    pins();
    text.draw();
    scrub.draw();
    mark(false);
  }

  /** Each lane after the first is marked where it leaves the one it came from. */
  function part() {
    desk.lanes.forEach((lane, at) => {
      const from = lane.fork ? desk.lanes.find((other) => other.key === lane.fork.from) ?? desk.lanes[0] : desk.lanes[0];
      if (at && lane.trace && from.trace) views.get(lane.key)?.part(divergence(from.trace, lane.trace));
    });
  }

  const pins = () => desk.lanes.forEach((lane) => lane.trace && views.get(lane.key)?.pinned(lane.trace.annotations));

  /** Follows the selection; the costly parts wait for the next frame, so that held keys do not queue up. */
  function mark(spoken = true) {
    desk.lanes.forEach((lane, at) => views.get(lane.key)?.mark(desk.step, desk.row, at === desk.at));
    scrub.mark();
    text.mark();
    const view = desk.lane && views.get(desk.lane.key);
    if (view && (document.activeElement === document.body || document.activeElement.contains(lanes) || lanes.contains(document.activeElement))) view.focus();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      // First what reads the layout, then what changes it.
      if (view && desk.current) reveal(view);
      facts.draw();
    });
    if (spoken && desk.candidate) {
      const source = sourceOf(desk.lane.trace, desk.current);
      announce(say('announce.step', {
        step: desk.step + 1, source: source ? label(source) : '', token: label(desk.candidate), energy: number(desk.candidate.energy), percent: percent(desk.candidate.probability),
      }));
    }
  }

  function reveal(view) {
    const { left, right } = view.span(desk.step);
    const room = scroller.clientWidth;
    if (left < scroller.scrollLeft) scroller.scrollLeft = left;
    else if (right > scroller.scrollLeft + room) scroller.scrollLeft = right - room;
  }

  function enter() {
    if (desk.candidate) fork({ kind: 'force', step: desk.step, node: desk.candidate.id });
  }

  function setZoom(to) {
    zoom = Math.min(2, Math.max(0.35, to));
    views.forEach((view) => view.zoom(zoom));
    if (desk.lane && views.get(desk.lane.key)) reveal(views.get(desk.lane.key));
  }

  /** Steps come faster than frames: what came since the last frame is drawn at once. */
  function grow({ detail: lane }) {
    if (!grown.size) requestAnimationFrame(() => {
      const lanes = [...grown];
      grown.clear();
      if (!listening.signal.aborted) lanes.forEach(drawGrown);
    });
    grown.add(lane);
  }

  function drawGrown(lane) {
    const view = views.get(lane.key);
    if (!view) return;
    const had = view.columns.length;
    view.grow();
    part();
    if (lane === awaited && lane.trace.steps.length > desk.step) {
      awaited = null;
      return desk.select({ at: desk.lanes.indexOf(lane), step: desk.step });
    }
    if (lane === desk.lane) {
      scrub.draw();
      text.draw();
      if (had <= desk.step) mark(false);
    }
  }

  const listening = new AbortController();
  const on = (name, listener) => desk.addEventListener(name, listener, { signal: listening.signal });
  on('lanes', rebuild);
  on('shown', rebuild);
  on('grow', grow);
  on('select', () => mark());
  on('marks', () => { pins(); facts.draw(); });
  const unwatch = watchTheme(rebuild);
  rebuild();

  const actions = {
    'step-back': () => desk.select({ step: desk.step - 1 }),
    'step-on': () => desk.select({ step: desk.step + 1 }),
    'candidate-up': () => desk.select({ row: desk.row - 1 }),
    'candidate-down': () => desk.select({ row: desk.row + 1 }),
    first: () => desk.select({ step: 0 }),
    last: () => desk.select({ step: Infinity }),
    fork: enter,
    play: () => scrub.toggle(),
    pin,
    group,
    node: () => desk.candidate && act.node(desk.candidate.id),
    lane: () => desk.lanes.length > 1 && desk.select({ at: (desk.at + 1) % desk.lanes.length, step: desk.step }),
    'drop-fork': () => forks && desk.drop(desk.at),
    closer: () => setZoom(zoom * 1.25),
    farther: () => setZoom(zoom / 1.25),
    whole: () => setZoom(1),
    more: () => desk.show(desk.shown + 2),
    fewer: () => desk.show(desk.shown - 2),
    back: () => { scrub.stop(); desk.stop(); return true; },
  };
  return {
    root,
    answer(action) {
      if (!actions[action] || !desk.lanes.length) return false;
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
