// The form of a path: prompt, model, sampling, plugins.

import { element, field } from './element.js';
import { t } from './language.js';
import { DEFAULTS } from './request.js';

const FIELDS = [
  ['tokens', { min: 1, max: 1024, step: 1 }], ['temperature', { min: 0, max: 5, step: 0.1 }], ['top_k', { min: 0, step: 1 }],
  ['top_p', { min: 0, max: 1, step: 0.01 }], ['min_p', { min: 0, max: 1, step: 0.01 }], ['repetition_penalty', { min: 0.1, max: 10, step: 0.05 }],
  ['seed', { min: 0, step: 1 }], ['candidates', { min: 1, max: 512, step: 1 }],
];

/** Split a line into plugins, one `name:key=value,…` a word. */
const words = (line) => line.split(/\s+/).filter(Boolean);

/**
 * The fields of a request. `read()` returns the request, `write(request)` fills the fields; `brief` shows only the most
 * used ones. Enter in the prompt calls `go`.
 */
export function form({ models, plugins, brief = false, rows = 3, go, name = '' }) {
  const controls = {};
  let kept = { ...DEFAULTS };
  controls.prompt = element('textarea', {
    rows, class: 'prompt', spellcheck: 'false', placeholder: t('run.example'),
    oninput: () => { delete kept.prompt_ids; },
    onkeydown: (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      go?.();
    },
  });
  controls.model = element('select', { onchange: () => { delete kept.prompt_ids; } }, models.map((model) => element('option', { value: model.name }, `${model.name} · ${t(`kind.${model.kind}`)}`)));
  for (const [key, limits] of FIELDS) controls[key] = element('input', { type: 'number', ...limits, value: DEFAULTS[key] });
  controls.ignore_eos = element('input', { type: 'checkbox' });
  controls.plugins = element('input', { type: 'text', spellcheck: 'false', list: plugins.length ? `plugins-${name}` : null, placeholder: plugins.find((plugin) => plugin.name)?.name ?? '' });

  const shownFields = brief ? ['tokens', 'temperature', 'seed'] : FIELDS.map(([key]) => key);
  const root = element('form', { class: 'stack ask', onsubmit: (event) => { event.preventDefault(); go?.(); } },
    field(t('run.prompt'), controls.prompt, { class: 'field wide' }),
    element('div', { class: 'fields' },
      field(t('run.model'), controls.model),
      shownFields.map((key) => field(t(`run.${key}`), controls[key])),
      field(t('run.plugins'), controls.plugins, { class: 'field' }),
      brief ? null : element('label', { class: 'check' }, controls.ignore_eos, t('run.ignore_eos'))),
    plugins.length ? element('datalist', { id: `plugins-${name}` }, plugins.filter((plugin) => plugin.name).map((plugin) => element('option', { value: plugin.name }))) : null);

  return {
    root,
    prompt: controls.prompt,
    controls,
    read() {
      const request = { ...kept, prompt: controls.prompt.value, model: controls.model.value, plugins: words(controls.plugins.value) };
      for (const [key] of FIELDS) {
        const value = Number(controls[key].value);
        request[key] = controls[key].value !== '' && Number.isFinite(value) ? value : DEFAULTS[key];
      }
      request.ignore_eos = controls.ignore_eos.checked;
      return request;
    },
    write(request) {
      kept = { ...DEFAULTS, ...request };
      controls.prompt.value = request.prompt ?? '';
      if (models.some((model) => model.name === request.model)) controls.model.value = request.model;
      for (const [key] of FIELDS) controls[key].value = kept[key];
      controls.ignore_eos.checked = kept.ignore_eos;
      controls.plugins.value = kept.plugins.join(' ');
    },
  };
}
