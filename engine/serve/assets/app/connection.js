// Requests to the server: JSON, files, and streams of events.

/** An error response of the server. */
export class RequestError extends Error {
  constructor(status, message, kind) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

async function fail(answer) {
  let message = `${answer.status} ${answer.statusText}`;
  let kind;
  try {
    const { error } = await answer.json();
    message = error?.message ?? error ?? message;
    kind = error?.kind ?? error?.type;
  } catch { /* The body is no JSON: the status says it. */ }
  throw new RequestError(answer.status, message, kind);
}

const withQuery = (path, query = {}) => {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
};

/** GET a JSON document. */
export async function get(path, query, signal) {
  const answer = await fetch(withQuery(path, query), { signal });
  if (!answer.ok) await fail(answer);
  return answer.json();
}

/** GET bytes. */
export async function bytes(path, query, signal) {
  const answer = await fetch(withQuery(path, query), { signal });
  if (!answer.ok) await fail(answer);
  return answer.arrayBuffer();
}

const jsonPost = (body, signal) => ({
  method: 'POST', signal, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
});

/** POST JSON and return the JSON response. */
export async function post(path, body, signal) {
  const answer = await fetch(path, jsonPost(body, signal));
  if (!answer.ok) await fail(answer);
  return answer.json();
}

/** POST JSON and return the response as a file. */
export async function file(path, query, body, signal) {
  const answer = await fetch(withQuery(path, query), jsonPost(body, signal));
  if (!answer.ok) await fail(answer);
  return answer.blob();
}

/**
 * POST JSON and yield the server-sent events of the response as `{event, data}`. Aborting the signal closes the
 * connection, which cancels the run.
 */
export async function* stream(path, body, signal) {
  const answer = await fetch(path, jsonPost(body, signal));
  if (!answer.ok) await fail(answer);
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

/** Parse the lines of an event; null for a comment, which keeps the connection alive. */
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
