// The request of a trace: its fields, and its forms in the address and as a command line.

/** A request with default values. */
export const DEFAULTS = {
  model: null, prompt: '', tokens: 16, temperature: 0, top_k: 0, top_p: 0.95, min_p: 0, repetition_penalty: 1,
  penalty_window: 64, seed: 0, candidates: 24, ignore_eos: false, plugins: [], interventions: [],
};
const NUMBERS = ['tokens', 'temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty', 'penalty_window', 'seed', 'candidates'];

/** The request that reproduces a trace: its tokens as the prompt, its sampling, its seed. */
export function ofTrace(trace) {
  const { temperature, top_k, top_p, min_p, repetition_penalty, penalty_window, banned } = trace.sampling;
  return {
    ...DEFAULTS, model: trace.model.name, prompt: promptText(trace),
    prompt_ids: trace.tokens.slice(0, trace.prompt_tokens).map((token) => token.id),
    tokens: Math.max(1, trace.steps.length), temperature, top_k, top_p, min_p, repetition_penalty, penalty_window, banned,
    seed: trace.seed, candidates: Math.max(1, ...trace.steps.map((step) => step.candidates.length)),
    plugins: (trace.plugins ?? []).map(written), interventions: trace.interventions ?? [],
  };
}

/** A recorded plugin as a request writes it: `name:key=value,…`. */
function written(plugin) {
  const options = Object.entries(plugin.options ?? {}).map(([key, value]) => `${key}=${value}`).join(',');
  return options ? `${plugin.name}:${options}` : plugin.name;
}

/** The prompt of a trace as text; tokens that are pieces of a character count once, as that character. */
export function promptText(trace) {
  const given = trace.tokens.slice(0, trace.prompt_tokens);
  let text = '', held = null;
  for (const token of given) {
    if (token.text !== null) { text += token.text; held = null; continue; }
    if (token.joined && token.joined !== held) text += token.joined;
    held = token.joined;
  }
  return text;
}

/** The body of the POST. */
export function body(request) {
  const { prompt, prompt_ids, ...rest } = request;
  return { ...rest, ...(prompt_ids ? { prompt_ids } : { prompt }) };
}

/** The values for the address, without defaults. */
export function toAddress(request) {
  const values = { model: request.model, prompt: request.prompt };
  for (const name of NUMBERS) if (request[name] !== DEFAULTS[name]) values[name] = request[name];
  if (request.ignore_eos) values.ignore_eos = 1;
  if (request.prompt_ids) values.ids = request.prompt_ids.join(',');
  if (request.plugins.length) values.plugins = JSON.stringify(request.plugins);
  if (request.interventions.length) values.interventions = JSON.stringify(request.interventions);
  return values;
}

function list(text) {
  try {
    const value = JSON.parse(text ?? '[]');
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

/** Read a request from the values of an address; null if they have no prompt. */
export function fromAddress(values) {
  if (!values.prompt && !values.ids) return null;
  const request = { ...DEFAULTS, model: values.model ?? null, prompt: values.prompt ?? '' };
  for (const name of NUMBERS) {
    const value = Number(values[name]);
    if (values[name] !== undefined && Number.isFinite(value)) request[name] = value;
  }
  request.ignore_eos = values.ignore_eos === '1';
  if (values.ids) request.prompt_ids = values.ids.split(',').map(Number).filter(Number.isInteger);
  request.plugins = list(values.plugins).filter((plugin) => typeof plugin === 'string');
  request.interventions = list(values.interventions);
  return request;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The command line that prints the same trace, without interventions, which have no option. The file of a graph model
 * is assumed to be named after the model.
 */
export function command(request, kind) {
  const words = ['brillm', 'trace'];
  if (request.prompt_ids) words.push('--prompt-ids', request.prompt_ids.join(','));
  else words.push(quoted(request.prompt));
  if (request.model) words.push('--model', quoted(kind === 'graph' ? `${request.model}.bril` : request.model));
  words.push('--tokens', request.tokens);
  if (request.temperature > 0) words.push('--temperature', request.temperature);
  for (const name of ['top_k', 'top_p', 'min_p', 'repetition_penalty', 'penalty_window', 'seed'])
    if (request[name] !== DEFAULTS[name]) words.push(`--${name.replaceAll('_', '-')}`, request[name]);
  if (request.ignore_eos) words.push('--ignore-eos');
  for (const plugin of request.plugins) words.push('--plugin', quoted(plugin));
  return words.join(' ');
}
