// One keyboard map for every screen. A key names an action; the open screen, then the frame, may answer it.

/** Key → action, in the order the help shows them. */
export const KEYS = [
  ['ArrowLeft', 'step-back', '←'], ['ArrowRight', 'step-on', '→'],
  ['ArrowUp', 'candidate-up', '↑'], ['ArrowDown', 'candidate-down', '↓'],
  ['Home', 'first', 'Home'], ['End', 'last', 'End'],
  ['Enter', 'fork', 'Enter'], [' ', 'play', 'Space'],
  ['l', 'lane', 'l'], ['n', 'node', 'n'], ['p', 'pin', 'p'], ['g', 'group', 'g'], ['x', 'drop-fork', 'x'],
  ['/', 'search', '/'], ['r', 'run', 'r'], ['c', 'compare', 'c'], ['m', 'map', 'm'], ['h', 'path', 'h'],
  ['t', 'table', 't'], ['e', 'export', 'e'], ['s', 'save', 's'],
  ['+', 'closer', '+'], ['-', 'farther', '−'], ['0', 'whole', '0'],
  [']', 'more', ']'], ['[', 'fewer', '['],
  ['d', 'theme', 'd'], ['?', 'help', '?'], ['Escape', 'back', 'Esc'],
];

const ACTIONS = new Map(KEYS.map(([key, action]) => [key, action]));
// Enter and space belong to the control that has the focus.
const PRESS = 'a[href], button, select, summary, [role="button"]';
const WRITE = 'input:not([type="checkbox"], [type="radio"], [type="range"], [type="file"]), textarea, select, [contenteditable]';

/** The action a key event means, or nothing: writing, pressing and dialogs keep their own keys. */
export function actionOf(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return undefined;
  if (document.querySelector('dialog[open]')) return undefined;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest(WRITE)) return event.key === 'Escape' ? 'back' : undefined;
  const cell = target.closest('[role="gridcell"]');
  if (!cell && (event.key === 'Enter' || event.key === ' ') && target.closest(PRESS)) return undefined;
  if (target.matches('input') && /^(Arrow|Home|End| |Enter)/.test(event.key)) return undefined;
  // Arrows, Home and End scroll a table that has the focus.
  if (target.closest('.twin-scroll') && /^(Arrow|Home|End| )/.test(event.key)) return undefined;
  return ACTIONS.get(event.key === '=' ? '+' : event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

/** Listens for keys; `answer(action, event)` returns whether it did something. */
export function listen(answer) {
  addEventListener('keydown', (event) => {
    const action = actionOf(event);
    if (action && answer(action, event)) event.preventDefault();
  });
}
