// The inspector: figures of the selected candidate, what contributed to it, and interventions.

import { attentionBars, contributionBars, attribution, marginBars } from './contribution.js';
import { post } from './connection.js';
import { button, element, put } from './element.js';
import { count, number, percent, t } from './language.js';
import { label, shown } from './token.js';
import { marked, sourceOf, describeIntervention, tokenOf } from './trace.js';

const fact = (name, value, width = '') => [element('dt', {}, name), element('dd', { class: `figure ${width}` }, value)];

/**
 * The inspector of a path set. `act` has `fork(intervention)`, `pin()`, `group()`, `node(id)`; `contributed(attribution)`
 * is called with the contribution of each earlier token.
 */
export function inspector(paths, act, contributed) {
  const root = element('aside', { class: 'inspector card', 'aria-label': t('inspector.title') });
  const known = new Map();
  let layer = 0;
  let waiting;

  /** The next likeliest candidate of a step. */
  const runnerUp = (step) => [...step.candidates].sort((a, b) => a.rank - b.rank).find((other) => other.id !== step.chosen);

  /**
   * Show the contributions to a candidate, and why the chosen one is ahead of it; of the chosen one, why it is ahead of
   * the next likeliest. What the trace does not hold is requested after a pause.
   */
  function contributions(panel, step, candidate, container) {
    const own = step.contributions?.target === candidate.id;
    const other = candidate.id === step.chosen ? runnerUp(step) : candidate;
    const against = element('div', { class: 'stack' });
    const key = `${panel.key}/${step.index}/${candidate.id}`;
    if (own) bars(step.contributions);
    if (known.has(key)) return answered(known.get(key));
    put(own ? against : container, element('p', { class: 'soft small' }, t('inspector.waiting')));
    if (!own) contributed(null);
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      try {
        const { request, trace } = panel;
        const answer = await post('api/v1/fan', {
          model: trace.model.name, tokens: trace.tokens.slice(0, step.position).map((token) => token.id), prompt_tokens: trace.prompt_tokens,
          k: 1, targets: [own && other ? other.id : candidate.id], against: step.chosen,
          plugins: request.plugins, interventions: trace.interventions, seed: trace.seed,
        });
        known.set(key, answer);
        if (container.isConnected) answered(answer);
      } catch (error) {
        put(own ? against : container, element('p', { class: 'soft small' }, error.message));
      }
    }, 180);
    function answered(answer) {
      if (!own) bars(answer.contributions[0]);
      const explanation = answer.explanations[0];
      const compared = explanation && other && explanation.alternative !== explanation.chosen;
      put(against, ...(compared ? [element('h3', {}, t('margin.title')),
        element('p', { class: 'hop' }, shown(tokenOf(panel.trace, step.chosen)), element('span', { class: 'soft' }, ` ${t('margin.over')} `), shown(other)),
        marginBars(explanation, panel.trace)] : []));
    }
    function bars(found) {
      if (!found) return;
      put(container, contributionBars(found, panel.trace, (position) => act.fork({ kind: 'mute_signal', position })), against);
      contributed(attribution(found));
    }
  }

  function reasons(panel, step, candidate) {
    const container = element('div', {});
    if (step.attention) {
      const fill = () => {
        put(container, attentionBars(step, panel.trace, layer, (to) => { layer = to; fill(); }));
        const weights = step.attention[layer]?.weights ?? [];
        const most = Math.max(1e-12, ...weights.map((weight) => weight ?? 0));
        contributed(new Map(weights.map((weight, position) => [position, (weight ?? 0) / most])));
      };
      layer = Math.min(layer, step.attention.length - 1);
      fill();
    } else contributions(panel, step, candidate, container);
    return container;
  }

  function changes(step, candidate) {
    const factor = element('input', { type: 'number', min: 0, max: 1000, step: 0.1, value: 0.5, 'aria-label': t('inspector.factor') });
    const energy = element('input', { type: 'number', step: 0.5, value: 5, 'aria-label': t('inspector.energy') });
    const edge = { source: step.source, target: candidate.id };
    return element('details', { class: 'changes' }, element('summary', {}, t('inspector.change')),
      element('div', { class: 'stack' },
        element('div', { class: 'tools' },
          button(t('inspector.mute_edge'), () => act.fork({ kind: 'mute_edge', ...edge })),
          button(t('inspector.mute_node'), () => act.fork({ kind: 'mute_node', node: candidate.id }))),
        element('div', { class: 'tools' }, factor,
          button(t('inspector.scale_edge'), () => act.fork({ kind: 'scale_edge', ...edge, factor: Number(factor.value) })),
          button(t('inspector.scale_node'), () => act.fork({ kind: 'scale_node', node: candidate.id, factor: Number(factor.value) }))),
        element('div', { class: 'tools' }, energy,
          button(t('inspector.inject'), () => act.fork({ kind: 'inject', step: step.index, node: candidate.id, energy: Number(energy.value) })))));
  }

  function marks(panel) {
    const { annotations } = panel.trace;
    const name = (id) => label(tokenOf(panel.trace, id));
    const go = (mark) => button(`${mark.step + 1} ${name(mark.node)}`, () => paths.select({ step: mark.step }), { class: 'quiet tiny' });
    const notes = element('textarea', { rows: 2, value: annotations.notes, oninput: () => { annotations.notes = notes.value; } });
    return element('div', { class: 'stack' },
      annotations.pins.length ? element('div', { class: 'tools' }, element('span', { class: 'small soft' }, `◆ ${t('inspector.pins')}`), annotations.pins.map(go)) : null,
      annotations.groups.map((group, at) => element('div', { class: 'tools' },
        element('span', { class: 'small soft' }, `${String.fromCharCode(65 + (at % 26))} ${group.name}`), group.members.map(go))),
      element('label', { class: 'field' }, element('span', { class: 'field-label' }, t('inspector.notes')), notes));
  }

  function draw() {
    const { panel, current: step, candidate } = paths;
    if (!panel?.trace || !step || !candidate) {
      put(root, element('p', { class: 'soft' }, panel?.state === 'running' ? t('inspector.waiting') : t('inspector.empty')));
      return contributed(null);
    }
    const source = sourceOf(panel.trace, step) ?? tokenOf(panel.trace, step.source);
    const graph = panel.trace.model.kind === 'graph';
    const open = root.querySelector('.changes')?.open;
    const chosen = candidate.id === step.chosen;
    const pinned = marked(panel.trace.annotations.pins, step.index, candidate.id);
    put(root, 
      element('h2', {}, t('inspector.step', { step: step.index + 1 })),
      element('p', { class: 'hop' }, shown(source), element('span', { class: 'soft', 'aria-hidden': 'true' }, ' → '), shown(candidate),
        element('span', { class: `tag ${chosen ? 'good' : ''}` }, chosen ? (step.forced ? t('inspector.forced') : t('inspector.chosen')) : t('inspector.rank', { rank: candidate.rank }))),
      element('dl', { class: 'facts' },
        fact(t('candidate.probability'), percent(candidate.probability)),
        fact(graph ? t('candidate.energy') : t('candidate.logit'), number(candidate.energy, 3)),
        fact(t('candidate.resistance'), number(-Math.log(candidate.probability), 3)),
        fact(t('candidate.rank'), count(candidate.rank)),
        graph ? fact(t('candidate.edge'), t(`edge.${candidate.edge}`)) : null,
        graph ? fact(t('candidate.count'), count(candidate.count ?? 0)) : null,
        candidate.walks?.length ? fact(t('candidate.walks'), candidate.walks.map((walk) =>
          `${walk.nodes.map((id) => label(tokenOf(panel.trace, id))).join(' ')} ×${count(walk.count)} (+${number(walk.lift)} nat)`).join('; '), 'wide') : null,
        candidate.recall ? fact(t('candidate.recall'), `${percent(candidate.recall.share)} (${candidate.recall.positions.map((one) =>
          `${one.position + 1}: ${percent(one.share)}`).join('; ')})`, 'wide') : null,
        fact(t('step.entropy'), `${number(step.entropy)} nat`),
        fact(t('step.margin'), step.margin === null ? '–' : `${number(step.margin)} nat`)),
      element('div', { class: 'tools inspector-actions' },
        button([t('inspector.force'), element('kbd', {}, 'Enter')], () => act.fork({ kind: 'force', step: step.index, node: candidate.id }), { class: 'primary', disabled: chosen }),
        button([t(pinned ? 'inspector.unpin' : 'inspector.pin'), element('span', { class: 'key' }, 'p')], act.pin, { 'aria-pressed': String(pinned) }),
        button([t('inspector.group'), element('span', { class: 'key' }, 'g')], act.group),
        button([t('inspector.node'), element('span', { class: 'key' }, 'n')], () => act.node(candidate.id), { disabled: !graph })),
      element('h3', {}, graph ? t('contribution.title') : t('attention.title')),
      reasons(panel, step, candidate),
      changes(step, candidate),
      panel.trace.interventions.length
        ? element('p', { class: 'small' }, element('b', {}, t('inspector.changed')), ' ', panel.trace.interventions.map((each) => describeIntervention(each, (id) => label(tokenOf(panel.trace, id)))).join('; '))
        : null,
      marks(panel));
    if (open) root.querySelector('.changes').open = true;
  }
  return { root, draw };
}
