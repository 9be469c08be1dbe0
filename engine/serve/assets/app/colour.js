// The cividis colour map for energies: it reads the same with and without red-green vision, and in grey.
// Nunez, Anderton, Renslow 2018, doi:10.1371/journal.pone.0199239; nine of its colours, interpolated.

const STOPS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [254, 232, 56],
];

/** The colour of a value between 0 and 1 as `rgb(…)`, with commas, the only form that sigma reads. */
export function cividis(value) {
  const position = Math.min(1, Math.max(0, Number.isFinite(value) ? value : 0)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(position));
  const fraction = position - low;
  const mixed = STOPS[low].map((from, channel) => Math.round(from + fraction * (STOPS[low + 1][channel] - from)));
  return `rgb(${mixed.join(', ')})`;
}

/** The colour of an energy for a theme, without the end of the map that is hard to see on its background. */
export const energyColour = (value, theme) => cividis(theme === 'dark' ? 0.3 + 0.7 * value : 0.88 * value);

/** A function that scales values to 0…1 between the smallest and the largest of a list; equal values become 0.5. */
export function scale(values) {
  const finite = values.filter(Number.isFinite);
  const least = Math.min(...finite), most = Math.max(...finite);
  return (value) => (most > least ? (value - least) / (most - least) : 0.5);
}
