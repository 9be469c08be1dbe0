// Queries on a trace: candidates of a step, divergence of two paths, pins and groups.

import { t } from './language.js';

/** The candidates that are drawn: the `shown` most likely ones, and the chosen one if it is not among them. */
export function listed(step, shown) {
  const known = drawn.get(step);
  if (known?.shown === shown) return known.rows;
  const rows = order(step, shown);
  drawn.set(step, { shown, rows });
  return rows;
}

// A step never changes, and its rows are read many times for each key.
const drawn = new WeakMap();

function order(step, shown) {
  const ranked = [...step.candidates].sort((a, b) => a.rank - b.rank);
  const top = ranked.slice(0, shown);
  if (!top.some((candidate) => candidate.id === step.chosen)) {
    const chosen = ranked.find((candidate) => candidate.id === step.chosen);
    if (chosen) top.push(chosen);
  }
  return top;
}

/** The candidates that are not drawn: their count and their probability. */
export function unlisted(step, rows) {
  const hidden = step.candidates.filter((candidate) => !rows.includes(candidate));
  return {
    count: step.rest.count + hidden.length,
    probability: step.rest.probability + hidden.reduce((sum, candidate) => sum + candidate.probability, 0),
  };
}

/** The chosen candidate of a step. */
export const chosenOf = (step) => step.candidates.find((candidate) => candidate.id === step.chosen);

/** The token that a step starts from. */
export const sourceOf = (trace, step) => trace.tokens[step.position - 1];

const same = (a, b) => (a.text !== null || b.text !== null ? a.text === b.text && a.bytes_hex === b.bytes_hex : a.bytes_hex === b.bytes_hex);

/** The first step where two paths choose different texts; null if there is none. */
export function divergence(a, b) {
  const steps = Math.min(a.steps.length, b.steps.length);
  for (let at = 0; at < steps; at += 1) {
    const [left, right] = [a.tokens[a.prompt_tokens + at], b.tokens[b.prompt_tokens + at]];
    if (!left || !right || !same(left, right)) return at;
  }
  return null;
}

/** Whether there is a mark `{step, node}` on a candidate. */
export const marked = (marks, step, node) => marks.some((mark) => mark.step === step && mark.node === node);

/** Add a mark, or remove it if it exists; returns whether it exists now. */
export function toggle(marks, step, node) {
  const at = marks.findIndex((mark) => mark.step === step && mark.node === node);
  if (at >= 0) marks.splice(at, 1);
  else marks.push({ step, node });
  return at < 0;
}

/** Describe an intervention in words; `name` returns the label of a node. */
export function describeIntervention(intervention, name) {
  const { kind, node, source, target, factor, energy, step, position } = intervention;
  return t(`change.${kind}`, {
    node: node === undefined ? '' : name(node), source: source === undefined ? '' : name(source),
    target: target === undefined ? '' : name(target), factor, energy, step: (step ?? 0) + 1, position: (position ?? 0) + 1,
  });
}

/** The token of an id, from anywhere in a trace. */
export function tokenOf(trace, id) {
  const inPath = trace.tokens.find((token) => token.id === id);
  if (inPath) return inPath;
  for (const step of trace.steps) {
    const found = step.candidates.find((candidate) => candidate.id === id);
    if (found) return found;
  }
  return { id, text: null, bytes_hex: '', display: `#${id}` };
}
