// Plugins screen: the installed plugins, their options, and a comparison with and without each.

import { button, element, field } from '../element.js';
import { t } from '../language.js';

export function plugins(app, frame) {
  function card(plugin) {
    if (plugin.error && !plugin.name) return element('section', { class: 'card' }, element('p', { role: 'alert' }, plugin.error));
    const inputs = (plugin.options ?? []).map((option) => ({ option, input: input(option) }));
    const chosen = () => {
      const set = inputs.map(({ option, input: box }) => [option.name, box.type === 'checkbox' ? String(box.checked) : box.value])
        .filter(([name, value]) => value !== '' && value !== String(plugin.options.find((option) => option.name === name).default ?? ''));
      return set.length ? `${plugin.name}:${set.map(([name, value]) => `${name}=${value}`).join(',')}` : plugin.name;
    };
    const on = element('input', { type: 'checkbox', checked: app.request.plugins.some((each) => each.split(':')[0] === plugin.name), onchange: () => put(on.checked) });
    function put(wanted) {
      const others = app.request.plugins.filter((each) => each.split(':')[0] !== plugin.name);
      app.request = { ...app.request, plugins: wanted ? [...others, chosen()] : others };
    }
    function compare() {
      const kind = plugin.paths?.includes('transformer') && !plugin.paths.includes('graph') ? 'transformer' : null;
      const model = kind && app.modelOf(app.request.model)?.kind !== kind ? app.models.find((each) => each.kind === kind)?.name : app.request.model;
      const base = { ...app.request, model: model ?? app.request.model, plugins: [], interventions: [], prompt: app.request.prompt || t('run.example'), prompt_ids: undefined };
      app.sides = [base, { ...base, plugins: [chosen()] }];
      app.sidesGiven = true;
      frame.go('compare', { start: true });
    }
    return element('section', { class: 'card stack', 'aria-label': plugin.name },
      element('div', { class: 'screen-head' }, element('h2', {}, plugin.title ?? plugin.name), element('span', { class: 'soft small figure' }, `${plugin.name} ${plugin.version}`)),
      element('p', {}, plugin.description),
      element('ul', { class: 'chips' }, [...(plugin.hooks ?? []), ...(plugin.paths ?? []).map((path) => t(`kind.${path}`))].map((name) => element('li', { class: 'tag' }, name))),
      plugin.error ? element('p', { role: 'alert', class: 'failed' }, plugin.error) : null,
      inputs.length ? element('div', { class: 'fields' }, inputs.map(({ option, input: box }) => field(option.name, box, { class: 'field', title: option.help ?? '' }))) : null,
      element('div', { class: 'tools' }, element('label', { class: 'check' }, on, t('plugins.use')), button(t('plugins.compare'), compare)));
  }

  const found = app.plugins;
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, t('screen.plugins')), element('div', { class: 'tools' }, frame.tableButton())),
      found.length ? element('div', { class: 'columns two' }, found.map(card)) : element('p', { class: 'empty card' }, t('plugins.none')),
      element('p', { class: 'soft small' }, t('plugins.trust'))),
    tables: () => [{
      caption: t('screen.plugins'), columns: [{ label: t('plugins.name') }, { label: t('plugins.version') }, { label: t('plugins.hooks') }, { label: t('plugins.paths') }, { label: t('plugins.about'), kind: 'wrap' }],
      rows: found.map((plugin) => [plugin.name ?? '–', plugin.version ?? '–', (plugin.hooks ?? []).join(', '), (plugin.paths ?? []).join(', '), plugin.description ?? plugin.error]),
    }],
    values: () => ({}),
    answer: (action) => action === 'back' && (frame.go('path'), true),
    close() {},
  };
}

/** The control for an option. */
function input(option) {
  if (option.choices?.length) return element('select', {}, option.choices.map((choice) => element('option', { value: choice, selected: choice === option.default }, String(choice))));
  if (option.type === 'boolean') return element('input', { type: 'checkbox', checked: option.default === true });
  const numeric = option.type === 'number' || option.type === 'integer';
  return element('input', { type: numeric ? 'number' : 'text', step: option.type === 'integer' ? 1 : numeric ? 'any' : null, min: option.minimum, max: option.maximum, value: option.default ?? '' });
}
