// Keyboard shortcuts. A key stands for an action, which the open screen or else the page handles.

/** Key, action and sign, in the order of the help. */
export const KEYS = [
  ['ArrowLeft', 'step_back', '←'], ['ArrowRight', 'step_forward', '→'],
  ['ArrowUp', 'candidate_up', '↑'], ['ArrowDown', 'candidate_down', '↓'],
  ['Home', 'first', 'Home'], ['End', 'last', 'End'],
  ['Enter', 'fork', 'Enter'], [' ', 'play', 'Space'],
  ['l', 'panel', 'l'], ['n', 'node', 'n'], ['p', 'pin', 'p'], ['g', 'group', 'g'], ['x', 'remove_fork', 'x'],
  ['/', 'search', '/'], ['r', 'run', 'r'], ['c', 'compare', 'c'], ['m', 'map', 'm'], ['h', 'path', 'h'],
  ['t', 'table', 't'], ['e', 'export', 'e'], ['s', 'save', 's'],
  ['+', 'zoom_in', '+'], ['-', 'zoom_out', '−'], ['0', 'zoom_reset', '0'],
  [']', 'more', ']'], ['[', 'fewer', '['],
  ['d', 'theme', 'd'], ['?', 'help', '?'], ['Escape', 'back', 'Esc'],
];

const ACTIONS = new Map(KEYS.map(([key, action]) => [key, action]));
// A focused control handles Enter and space itself.
const PRESS = 'a[href], button, select, summary, [role="button"]';
const WRITE = 'input:not([type="checkbox"], [type="radio"], [type="range"], [type="file"]), textarea, select, [contenteditable]';

/** The action of a key event, if any: text fields, controls and dialogs handle their own keys. */
export function actionOf(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return undefined;
  if (document.querySelector('dialog[open]')) return undefined;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest(WRITE)) return event.key === 'Escape' ? 'back' : undefined;
  const cell = target.closest('[role="gridcell"]');
  if (!cell && (event.key === 'Enter' || event.key === ' ') && target.closest(PRESS)) return undefined;
  if (target.matches('input') && /^(Arrow|Home|End| |Enter)/.test(event.key)) return undefined;
  // Arrows, Home and End scroll a focused table.
  if (target.closest('.table-scroll') && /^(Arrow|Home|End| )/.test(event.key)) return undefined;
  return ACTIONS.get(event.key === '=' ? '+' : event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

/** Listen for keys; `answer(action, event)` returns whether it handled the action. */
export function listen(answer) {
  addEventListener('keydown', (event) => {
    const action = actionOf(event);
    if (action && answer(action, event)) event.preventDefault();
  });
}
