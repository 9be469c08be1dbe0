// Announcements for screen readers: one polite live region. While keys repeat, only the last line is announced.

let waiting;

/** Announce a line. */
export function announce(line) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    document.getElementById('announcer').textContent = line;
  }, 60);
}
