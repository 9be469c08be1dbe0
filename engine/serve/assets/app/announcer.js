// One polite live region: what changed, said once, the last word wins while keys repeat.

let waiting;

/** Says a line to screen readers. */
export function announce(line) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    document.getElementById('announcer').textContent = line;
  }, 60);
}
