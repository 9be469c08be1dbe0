// The view in the hash of the address: the screen, the request, the selection. Opening the same address shows the same
// view, since a seed reproduces a path bit for bit.

let written = '';

/** The hash as `{screen, values}`; values are strings. */
export function read() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { screen: path || 'path', values: Object.fromEntries(new URLSearchParams(query)) };
}

/** Write the view; a new screen adds an entry to the history, a moved selection does not. */
export function write(screen, values, { entry = false } = {}) {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const query = new URLSearchParams(kept).toString();
  const hash = `#/${screen}${query ? `?${query}` : ''}`;
  if (hash === location.hash) return;
  written = hash;
  history[entry ? 'pushState' : 'replaceState'](null, '', hash);
}

/** Call back when the user moves through the history or edits the hash, but not after `write`. */
export function watch(changed) {
  addEventListener('popstate', () => {
    if (location.hash !== written) changed(read());
    written = location.hash;
  });
}
