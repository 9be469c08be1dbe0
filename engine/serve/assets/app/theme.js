// The theme: light, dark, or that of the system. One attribute selects it; the colours are custom properties.

const STORAGE_KEY = 'brillm.theme';
const ORDER = ['auto', 'light', 'dark'];
const dark = matchMedia('(prefers-color-scheme: dark)');
const watchers = new Set();

/** The chosen theme: auto, light or dark. */
export const theme = () => document.documentElement.dataset.theme;

/** The theme in effect: light or dark. */
export const effectiveTheme = () => (theme() === 'auto' ? (dark.matches ? 'dark' : 'light') : theme());

/** Call back when the colours change, for the canvas of the map, which does not follow CSS. */
export function watchTheme(observer) {
  watchers.add(observer);
  return () => watchers.delete(observer);
}
const changed = () => watchers.forEach((observer) => observer(effectiveTheme()));
dark.addEventListener('change', changed);

export function setTheme(choice) {
  document.documentElement.dataset.theme = ORDER.includes(choice) ? choice : 'auto';
  localStorage.setItem(STORAGE_KEY, theme());
  changed();
}

export const restoreTheme = () => setTheme(localStorage.getItem(STORAGE_KEY) ?? 'auto');

/** Switch to the next of auto, light and dark. */
export const toggleTheme = () => setTheme(ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);

/** Whether the user prefers reduced motion. */
export const reducedMotion = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
