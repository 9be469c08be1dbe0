// The tables that have the same content as the drawings.

import { t } from './language.js';
import { label, shown } from './token.js';
import { sourceOf } from './trace.js';

const tokenCell = (token) => ({ text: label(token), sort: label(token), show: () => shown(token) });

/** A row for each step of a panel. */
export function stepsTable(panel, caption) {
  const columns = [
    { label: t('table.step'), kind: 'number' }, { label: t('table.source') }, { label: t('table.chosen') },
    { label: t('candidate.energy'), kind: 'number' }, { label: t('candidate.probability'), kind: 'number' }, { label: t('candidate.rank'), kind: 'number' },
    { label: t('candidate.edge') }, { label: t('candidate.resistance'), kind: 'number' }, { label: t('step.entropy'), kind: 'number' }, { label: t('step.margin'), kind: 'number' },
  ];
  const rows = panel.trace.steps.map((step) => {
    const chosen = step.candidates.find((candidate) => candidate.id === step.chosen);
    const source = sourceOf(panel.trace, step);
    return [step.index + 1, source ? tokenCell(source) : `#${step.source}`, tokenCell(chosen), fixed(chosen.energy, 4), fixed(chosen.probability, 6), chosen.rank,
      chosen.edge ? t(`edge.${chosen.edge}`) : '–', fixed(step.resistance, 4), fixed(step.entropy, 4), step.margin === null ? '–' : fixed(step.margin, 4)];
  });
  return { caption, columns, rows };
}

/** A row for each candidate of a step. */
export function candidatesTable(step, caption) {
  return {
    caption,
    columns: [
      { label: t('candidate.rank'), kind: 'number' }, { label: t('table.token') }, { label: t('table.id'), kind: 'number' }, { label: t('table.bytes') },
      { label: t('candidate.energy'), kind: 'number' }, { label: t('candidate.probability'), kind: 'number' }, { label: t('candidate.edge') }, { label: t('candidate.count'), kind: 'number' },
    ],
    rows: [...step.candidates].sort((a, b) => a.rank - b.rank).map((candidate) => [candidate.rank, tokenCell(candidate), candidate.id, candidate.bytes_hex,
      fixed(candidate.energy, 4), fixed(candidate.probability, 6), candidate.edge ? t(`edge.${candidate.edge}`) : '–', candidate.count ?? 0]),
  };
}

/** A row for each contribution to a choice, none of them summed. */
export function contributionsTable(step, trace, caption) {
  if (!step.contributions) return null;
  return {
    caption,
    columns: [{ label: t('table.position'), kind: 'number' }, { label: t('table.component') }, { label: t('table.value'), kind: 'number' }, { label: t('table.length'), kind: 'number' }],
    rows: step.contributions.entries.map((entry) => [
      entry.kind === 'token' ? entry.position + 1 : '–',
      entry.kind === 'token' && trace.tokens[entry.position] ? tokenCell(trace.tokens[entry.position]) : t(`contribution.${entry.kind}`),
      fixed(entry.value, 5), fixed(entry.norm, 5)]),
  };
}

/** A number that sorts as a number and is copied with a decimal point in every language. */
export const fixed = (value, digits) => ({ text: Number.isFinite(value) ? value.toFixed(digits) : '–', sort: Number.isFinite(value) ? value : -Infinity });
export { tokenCell };
