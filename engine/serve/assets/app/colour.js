// Cividis: energies as colours that read the same with and without red-green vision, and in grey.
// Nunez, Anderton, Renslow 2018, doi:10.1371/journal.pone.0199239; nine of its stops, the rest interpolated.

const STOPS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [254, 232, 56],
];

/** The colour of a value between 0 and 1, as `rgb(…)`; with commas, since sigma reads no other form. */
export function cividis(value) {
  const place = Math.min(1, Math.max(0, Number.isFinite(value) ? value : 0)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  const part = place - low;
  const mixed = STOPS[low].map((from, channel) => Math.round(from + part * (STOPS[low + 1][channel] - from)));
  return `rgb(${mixed.join(', ')})`;
}

/** The colour of an energy on the ground of a theme: the end that would vanish into it is left out. */
export const energyColour = (value, theme) => cividis(theme === 'dark' ? 0.3 + 0.7 * value : 0.88 * value);

/** Where a value lies between the least and the most of a list; a list of equals lies in the middle. */
export function scale(values) {
  const finite = values.filter(Number.isFinite);
  const least = Math.min(...finite), most = Math.max(...finite);
  return (value) => (most > least ? (value - least) / (most - least) : 0.5);
}
