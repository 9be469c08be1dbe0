// The address's hash holds the view: the screen, what was asked, where one stands. A reload or a sent
// address shows the same again, since a seed replays a path bit for bit.

let written = '';

/** The hash as `{screen, values}`; values are strings. */
export function read() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { screen: path || 'path', values: Object.fromEntries(new URLSearchParams(query)) };
}

/** Writes the view; a new screen is a new entry of the history, a moved cursor is not. */
export function write(screen, values, { entry = false } = {}) {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const query = new URLSearchParams(kept).toString();
  const hash = `#/${screen}${query ? `?${query}` : ''}`;
  if (hash === location.hash) return;
  written = hash;
  history[entry ? 'pushState' : 'replaceState'](null, '', hash);
}

/** Calls back when the person moves through the history or edits the hash, not when `write` did. */
export function watch(changed) {
  addEventListener('popstate', () => {
    if (location.hash !== written) changed(read());
    written = location.hash;
  });
}
