// The server, as the page asks it: JSON in and out, and events as they stream.

/** What the server refused or could not do, with its own words. */
export class Refusal extends Error {
  constructor(status, message, kind) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

async function refuse(answer) {
  let message = `${answer.status} ${answer.statusText}`;
  let kind;
  try {
    const { error } = await answer.json();
    message = error?.message ?? error ?? message;
    kind = error?.kind ?? error?.type;
  } catch { /* The body is no JSON: the status says it. */ }
  throw new Refusal(answer.status, message, kind);
}

const asked = (path, query = {}) => {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
};

/** GET, answered as JSON. */
export async function get(path, query, signal) {
  const answer = await fetch(asked(path, query), { signal });
  if (!answer.ok) await refuse(answer);
  return answer.json();
}

/** GET, answered as bytes. */
export async function bytes(path, query, signal) {
  const answer = await fetch(asked(path, query), { signal });
  if (!answer.ok) await refuse(answer);
  return answer.arrayBuffer();
}

const posting = (body, signal) => ({
  method: 'POST', signal, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
});

/** POST of JSON, answered as JSON. */
export async function post(path, body, signal) {
  const answer = await fetch(path, posting(body, signal));
  if (!answer.ok) await refuse(answer);
  return answer.json();
}

/** POST of JSON, answered as a file. */
export async function file(path, query, body, signal) {
  const answer = await fetch(asked(path, query), posting(body, signal));
  if (!answer.ok) await refuse(answer);
  return answer.blob();
}

/**
 * POST of JSON, answered as server-sent events: yields `{event, data}` with the data parsed. Aborting the
 * signal closes the connection, and the server stops its work.
 */
export async function* stream(path, body, signal) {
  const answer = await fetch(path, posting(body, signal));
  if (!answer.ok) await refuse(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value.replaceAll('\r\n', '\n');
      for (let end = held.indexOf('\n\n'); end >= 0; end = held.indexOf('\n\n')) {
        const block = held.slice(0, end);
        held = held.slice(end + 2);
        const message = parse(block);
        if (message) yield message;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One event's lines; comments (kept-alive connections send them) are no event. */
function parse(block) {
  let event = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) event = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
  }
  if (!data.length) return null;
  const text = data.join('\n');
  return text === '[DONE]' ? { event: 'done', data: null } : { event, data: JSON.parse(text) };
}
