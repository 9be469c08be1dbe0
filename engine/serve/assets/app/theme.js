// Light, dark or as the system says: one attribute, the colours are custom properties.

const PLACE = 'brillm.theme';
const ORDER = ['auto', 'light', 'dark'];
const dark = matchMedia('(prefers-color-scheme: dark)');
const watchers = new Set();

/** The choice: auto, light or dark. */
export const theme = () => document.documentElement.dataset.theme;

/** What is seen now: light or dark. */
export const seenTheme = () => (theme() === 'auto' ? (dark.matches ? 'dark' : 'light') : theme());

/** Calls back when the colours change; the map's canvas cannot follow CSS by itself. */
export function watchTheme(observer) {
  watchers.add(observer);
  return () => watchers.delete(observer);
}
const changed = () => watchers.forEach((observer) => observer(seenTheme()));
dark.addEventListener('change', changed);

export function putTheme(choice) {
  document.documentElement.dataset.theme = ORDER.includes(choice) ? choice : 'auto';
  localStorage.setItem(PLACE, theme());
  changed();
}

export const restoreTheme = () => putTheme(localStorage.getItem(PLACE) ?? 'auto');

/** The next of auto, light, dark. */
export const turnTheme = () => putTheme(ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);

/** Whether movement is unwelcome. */
export const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
