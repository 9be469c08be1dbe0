// Plugins: what is there, what it can be told, and the path with it beside the path without.

import { button, element, field } from '../element.js';
import { say } from '../language.js';

export function plugins(house, frame) {
  function card(plugin) {
    if (plugin.error && !plugin.name) return element('section', { class: 'card' }, element('p', { role: 'alert' }, plugin.error));
    const inputs = (plugin.options ?? []).map((option) => ({ option, input: input(option) }));
    const chosen = () => {
      const set = inputs.map(({ option, input: box }) => [option.name, box.type === 'checkbox' ? String(box.checked) : box.value])
        .filter(([name, value]) => value !== '' && value !== String(plugin.options.find((option) => option.name === name).default ?? ''));
      return set.length ? `${plugin.name}:${set.map(([name, value]) => `${name}=${value}`).join(',')}` : plugin.name;
    };
    const on = element('input', { type: 'checkbox', checked: house.asked.plugins.some((each) => each.split(':')[0] === plugin.name), onchange: () => put(on.checked) });
    function put(wanted) {
      const others = house.asked.plugins.filter((each) => each.split(':')[0] !== plugin.name);
      house.asked = { ...house.asked, plugins: wanted ? [...others, chosen()] : others };
    }
    function compare() {
      const kind = plugin.paths?.includes('transformer') && !plugin.paths.includes('graph') ? 'transformer' : null;
      const model = kind && house.modelOf(house.asked.model)?.kind !== kind ? house.models.find((each) => each.kind === kind)?.name : house.asked.model;
      const base = { ...house.asked, model: model ?? house.asked.model, plugins: [], interventions: [], prompt: house.asked.prompt || say('run.example'), prompt_ids: undefined };
      house.sides = [base, { ...base, plugins: [chosen()] }];
      house.sidesGiven = true;
      frame.go('compare', { start: true });
    }
    return element('section', { class: 'card stack', 'aria-label': plugin.name },
      element('div', { class: 'screen-head' }, element('h2', {}, plugin.title ?? plugin.name), element('span', { class: 'soft small figure' }, `${plugin.name} ${plugin.version}`)),
      element('p', {}, plugin.description),
      element('ul', { class: 'chips' }, [...(plugin.hooks ?? []), ...(plugin.paths ?? []).map((path) => say(`kind.${path}`))].map((name) => element('li', { class: 'tag' }, name))),
      plugin.error ? element('p', { role: 'alert', class: 'failed' }, plugin.error) : null,
      inputs.length ? element('div', { class: 'fields' }, inputs.map(({ option, input: box }) => field(option.name, box, { class: 'field', title: option.help ?? '' }))) : null,
      element('div', { class: 'tools' }, element('label', { class: 'check' }, on, say('plugins.use')), button(say('plugins.compare'), compare)));
  }

  const found = house.plugins;
  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.plugins')), element('div', { class: 'tools' }, frame.tableButton())),
      found.length ? element('div', { class: 'columns two' }, found.map(card)) : element('p', { class: 'empty card' }, say('plugins.none')),
      element('p', { class: 'soft small' }, say('plugins.trust'))),
    tables: () => [{
      caption: say('screen.plugins'), columns: [{ label: say('plugins.name') }, { label: say('plugins.version') }, { label: say('plugins.hooks') }, { label: say('plugins.paths') }, { label: say('plugins.about'), kind: 'wrap' }],
      rows: found.map((plugin) => [plugin.name ?? '–', plugin.version ?? '–', (plugin.hooks ?? []).join(', '), (plugin.paths ?? []).join(', '), plugin.description ?? plugin.error]),
    }],
    values: () => ({}),
    answer: (action) => action === 'back' && (frame.go('path'), true),
    close() {},
  };
}

/** The control an option asks for. */
function input(option) {
  if (option.choices?.length) return element('select', {}, option.choices.map((choice) => element('option', { value: choice, selected: choice === option.default }, String(choice))));
  if (option.type === 'boolean') return element('input', { type: 'checkbox', checked: option.default === true });
  const numeric = option.type === 'number' || option.type === 'integer';
  return element('input', { type: numeric ? 'number' : 'text', step: option.type === 'integer' ? 1 : numeric ? 'any' : null, min: option.minimum, max: option.maximum, value: option.default ?? '' });
}
