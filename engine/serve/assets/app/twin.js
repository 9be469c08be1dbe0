// The tables that say what the drawings show.

import { say } from './language.js';
import { label, shown } from './token.js';
import { sourceOf } from './trace.js';

const tokenCell = (token) => ({ text: label(token), sort: label(token), show: () => shown(token) });

/** Every step of a lane, a row each. */
export function stepsTable(lane, caption) {
  const columns = [
    { label: say('table.step'), kind: 'number' }, { label: say('table.source') }, { label: say('table.chosen') },
    { label: say('candidate.energy'), kind: 'number' }, { label: say('candidate.probability'), kind: 'number' }, { label: say('candidate.rank'), kind: 'number' },
    { label: say('candidate.edge') }, { label: say('candidate.resistance'), kind: 'number' }, { label: say('step.entropy'), kind: 'number' }, { label: say('step.margin'), kind: 'number' },
  ];
  const rows = lane.trace.steps.map((step) => {
    const chosen = step.candidates.find((candidate) => candidate.id === step.chosen);
    const source = sourceOf(lane.trace, step);
    return [step.index + 1, source ? tokenCell(source) : `#${step.source}`, tokenCell(chosen), fixed(chosen.energy, 4), fixed(chosen.probability, 6), chosen.rank,
      chosen.edge ? say(`edge.${chosen.edge}`) : '–', fixed(step.resistance, 4), fixed(step.entropy, 4), step.margin === null ? '–' : fixed(step.margin, 4)];
  });
  return { caption, columns, rows };
}

/** Every candidate of one step. */
export function candidatesTable(step, caption) {
  return {
    caption,
    columns: [
      { label: say('candidate.rank'), kind: 'number' }, { label: say('table.token') }, { label: say('table.id'), kind: 'number' }, { label: say('table.bytes') },
      { label: say('candidate.energy'), kind: 'number' }, { label: say('candidate.probability'), kind: 'number' }, { label: say('candidate.edge') }, { label: say('candidate.count'), kind: 'number' },
    ],
    rows: [...step.candidates].sort((a, b) => a.rank - b.rank).map((candidate) => [candidate.rank, tokenCell(candidate), candidate.id, candidate.bytes_hex,
      fixed(candidate.energy, 4), fixed(candidate.probability, 6), candidate.edge ? say(`edge.${candidate.edge}`) : '–', candidate.count ?? 0]),
  };
}

/** What pushed one choice: every entry, none summed. */
export function contributionsTable(step, trace, caption) {
  if (!step.contributions) return null;
  return {
    caption,
    columns: [{ label: say('table.position'), kind: 'number' }, { label: say('table.part') }, { label: say('table.value'), kind: 'number' }, { label: say('table.length'), kind: 'number' }],
    rows: step.contributions.entries.map((entry) => [
      entry.kind === 'token' ? entry.position + 1 : '–',
      entry.kind === 'token' && trace.tokens[entry.position] ? tokenCell(trace.tokens[entry.position]) : say(`contribution.${entry.kind}`),
      fixed(entry.value, 5), fixed(entry.norm, 5)]),
  };
}

/** A number that sorts as one and is copied with a point, whatever the language. */
export const fixed = (value, digits) => ({ text: Number.isFinite(value) ? value.toFixed(digits) : '–', sort: Number.isFinite(value) ? value : -Infinity });
export { tokenCell };
