// What is known of the candidate looked at, what pushed it, and what can be changed about it.

import { attentionBars, contributionBars, attribution } from './contribution.js';
import { post } from './connection.js';
import { button, element, put } from './element.js';
import { count, number, percent, say } from './language.js';
import { label, shown } from './token.js';
import { marked, sourceOf, told, tokenOf } from './trace.js';

const fact = (name, value) => [element('dt', {}, name), element('dd', { class: 'figure' }, value)];

/**
 * The inspector of a desk. `act` holds `fork(intervention)`, `pin()`, `group()`, `node(id)`; `pushed(attribution)` hears
 * which earlier tokens pushed.
 */
export function inspector(desk, act, pushed) {
  const root = element('aside', { class: 'inspector card', 'aria-label': say('inspector.title') });
  const known = new Map();
  let layer = 0;
  let waiting;

  /** Contributions of a candidate that was not chosen are asked for when one rests on it. */
  function contributions(lane, step, candidate, place) {
    if (step.contributions?.target === candidate.id) return bars(step.contributions);
    const key = `${lane.key}/${step.index}/${candidate.id}`;
    if (known.has(key)) return bars(known.get(key));
    put(place, element('p', { class: 'soft small' }, say('inspector.waiting')));
    pushed(null);
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      try {
        const { request, trace } = lane;
        const answer = await post('api/v1/fan', {
          model: trace.model.name, tokens: trace.tokens.slice(0, step.position).map((token) => token.id), prompt_tokens: trace.prompt_tokens,
          k: 1, targets: [candidate.id], plugins: request.plugins, interventions: trace.interventions, seed: trace.seed,
        });
        known.set(key, answer.contributions[0]);
        if (place.isConnected) bars(answer.contributions[0]);
      } catch (error) {
        put(place, element('p', { class: 'soft small' }, error.message));
      }
    }, 180);
    function bars(found) {
      if (!found) return;
      put(place, contributionBars(found, lane.trace, (position) => act.fork({ kind: 'mute_signal', position })));
      pushed(attribution(found));
    }
  }

  function reasons(lane, step, candidate) {
    const place = element('div', {});
    if (step.attention) {
      const fill = () => {
        put(place, attentionBars(step, lane.trace, layer, (to) => { layer = to; fill(); }));
        const weights = step.attention[layer]?.weights ?? [];
        const most = Math.max(1e-12, ...weights.map((weight) => weight ?? 0));
        pushed(new Map(weights.map((weight, position) => [position, (weight ?? 0) / most])));
      };
      layer = Math.min(layer, step.attention.length - 1);
      fill();
    } else contributions(lane, step, candidate, place);
    return place;
  }

  function changes(step, candidate) {
    const factor = element('input', { type: 'number', min: 0, max: 1000, step: 0.1, value: 0.5, 'aria-label': say('inspector.factor') });
    const energy = element('input', { type: 'number', step: 0.5, value: 5, 'aria-label': say('inspector.energy') });
    const edge = { source: step.source, target: candidate.id };
    return element('details', { class: 'changes' }, element('summary', {}, say('inspector.change')),
      element('div', { class: 'stack' },
        element('div', { class: 'tools' },
          button(say('inspector.mute-edge'), () => act.fork({ kind: 'mute_edge', ...edge })),
          button(say('inspector.mute-node'), () => act.fork({ kind: 'mute_node', node: candidate.id }))),
        element('div', { class: 'tools' }, factor,
          button(say('inspector.scale-edge'), () => act.fork({ kind: 'scale_edge', ...edge, factor: Number(factor.value) })),
          button(say('inspector.scale-node'), () => act.fork({ kind: 'scale_node', node: candidate.id, factor: Number(factor.value) }))),
        element('div', { class: 'tools' }, energy,
          button(say('inspector.inject'), () => act.fork({ kind: 'inject', step: step.index, node: candidate.id, energy: Number(energy.value) })))));
  }

  function marks(lane) {
    const { annotations } = lane.trace;
    const name = (id) => label(tokenOf(lane.trace, id));
    const go = (mark) => button(`${mark.step + 1} ${name(mark.node)}`, () => desk.select({ step: mark.step }), { class: 'quiet tiny' });
    const notes = element('textarea', { rows: 2, value: annotations.notes, oninput: () => { annotations.notes = notes.value; } });
    return element('div', { class: 'stack' },
      annotations.pins.length ? element('div', { class: 'tools' }, element('span', { class: 'small soft' }, `◆ ${say('inspector.pins')}`), annotations.pins.map(go)) : null,
      annotations.groups.map((group, at) => element('div', { class: 'tools' },
        element('span', { class: 'small soft' }, `${String.fromCharCode(65 + (at % 26))} ${group.name}`), group.members.map(go))),
      element('label', { class: 'field' }, element('span', { class: 'field-label' }, say('inspector.notes')), notes));
  }

  function draw() {
    const { lane, current: step, candidate } = desk;
    if (!lane?.trace || !step || !candidate) {
      put(root, element('p', { class: 'soft' }, lane?.state === 'running' ? say('inspector.waiting') : say('inspector.empty')));
      return pushed(null);
    }
    const source = sourceOf(lane.trace, step) ?? tokenOf(lane.trace, step.source);
    const graph = lane.trace.model.kind === 'graph';
    const open = root.querySelector('.changes')?.open;
    const chosen = candidate.id === step.chosen;
    const pinned = marked(lane.trace.annotations.pins, step.index, candidate.id);
    put(root, 
      element('h2', {}, say('inspector.step', { step: step.index + 1 })),
      element('p', { class: 'hop' }, shown(source), element('span', { class: 'soft', 'aria-hidden': 'true' }, ' → '), shown(candidate),
        element('span', { class: `tag ${chosen ? 'good' : ''}` }, chosen ? (step.forced ? say('inspector.forced') : say('inspector.chosen')) : say('inspector.rank', { rank: candidate.rank }))),
      element('dl', { class: 'facts' },
        fact(say('candidate.probability'), percent(candidate.probability)),
        fact(graph ? say('candidate.energy') : say('candidate.score'), number(candidate.energy, 3)),
        fact(say('candidate.resistance'), number(-Math.log(candidate.probability), 3)),
        fact(say('candidate.rank'), count(candidate.rank)),
        graph ? fact(say('candidate.edge'), say(`edge.${candidate.edge}`)) : null,
        graph ? fact(say('candidate.count'), count(candidate.count ?? 0)) : null,
        fact(say('step.entropy'), `${number(step.entropy)} nat`),
        fact(say('step.margin'), step.margin === null ? '–' : `${number(step.margin)} nat`)),
      element('div', { class: 'tools deeds' },
        button([say('inspector.force'), element('kbd', {}, 'Enter')], () => act.fork({ kind: 'force', step: step.index, node: candidate.id }), { class: 'primary', disabled: chosen }),
        button([say(pinned ? 'inspector.unpin' : 'inspector.pin'), element('span', { class: 'key' }, 'p')], act.pin, { 'aria-pressed': String(pinned) }),
        button([say('inspector.group'), element('span', { class: 'key' }, 'g')], act.group),
        button([say('inspector.node'), element('span', { class: 'key' }, 'n')], () => act.node(candidate.id), { disabled: !graph })),
      element('h3', {}, graph ? say('contribution.title') : say('attention.title')),
      reasons(lane, step, candidate),
      changes(step, candidate),
      lane.trace.interventions.length
        ? element('p', { class: 'small' }, element('b', {}, say('inspector.changed')), ' ', lane.trace.interventions.map((each) => told(each, say, (id) => label(tokenOf(lane.trace, id)))).join('; '))
        : null,
      marks(lane));
    if (open) root.querySelector('.changes').open = true;
  }
  return { root, draw };
}
