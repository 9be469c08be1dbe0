// Path, the home: what flowed, step by step, with its forks below.

import { board } from '../board.js';
import { notice } from '../dialog.js';
import { button, element } from '../element.js';
import { exportDialog } from '../figure.js';
import { form } from '../form.js';
import { say } from '../language.js';
import { toAddress } from '../request.js';
import { saveDialog } from '../shelf.js';
import { candidatesTable, contributionsTable, stepsTable } from '../twin.js';

export function path(house, frame) {
  const { desk } = house;
  const fields = form({ ...house, brief: true, rows: 1, go, name: 'path' });
  fields.write(house.asked);
  const names = (lane, at) => (at ? say('lane.fork', { at }) : say('lane.path', { model: lane.trace?.model.name ?? lane.request.model ?? '' }));
  const paths = board(desk, { names, act: { node: (id) => frame.node(desk.lane.trace.model.name, id) } });

  function go() {
    house.asked = { ...fields.read(), interventions: [] };
    if (!house.asked.prompt.trim() && !house.asked.prompt_ids) return fields.prompt.focus();
    desk.run(house.asked);
    frame.address();
    frame.rest();
  }

  const withTrace = (does) => () => (desk.lane?.trace ? does(desk.lane.trace) : notice(say('path.empty')));
  const save = withTrace((trace) => saveDialog(trace));
  const send = withTrace((trace) => exportDialog(trace));

  return {
    root: element('div', { class: 'screen' },
      element('div', { class: 'card ask-card' }, fields.root, button([say('run.go'), element('kbd', {}, 'Enter')], go, { class: 'primary' })),
      element('div', { class: 'screen-head' }, element('h1', {}, say('screen.path')),
        element('div', { class: 'tools' },
          element('span', { class: 'soft small' }, say('path.candidates')),
          button('−', () => desk.show(desk.shown - 2), { 'aria-label': say('key.fewer') }),
          button('+', () => desk.show(desk.shown + 2), { 'aria-label': say('key.more') }),
          button([say('library.save'), element('span', { class: 'key' }, 's')], save),
          button([say('export.title'), element('span', { class: 'key' }, 'e')], send),
          frame.tableButton())),
      paths.root),
    tables() {
      if (!desk.lane?.trace) return [];
      const step = desk.current;
      return [
        ...desk.lanes.filter((lane) => lane.trace).map((lane) => stepsTable(lane, names(lane, desk.lanes.indexOf(lane)))),
        ...(step ? [candidatesTable(step, say('table.candidates', { step: step.index + 1 })), contributionsTable(step, desk.lane.trace, say('table.contributions', { step: step.index + 1 }))] : []),
      ].filter(Boolean);
    },
    focus: () => fields.prompt.focus(),
    values() {
      const forks = desk.lanes.slice(1).map((lane) => lane.request.interventions);
      return {
        ...toAddress(desk.lanes[0]?.request ?? house.asked), step: desk.step ? desk.step + 1 : null, row: desk.row ? desk.row + 1 : null,
        lane: desk.at || null, shown: desk.shown === 8 ? null : desk.shown, forks: forks.length ? JSON.stringify(forks) : null,
      };
    },
    answer(action) {
      if (action === 'save') return save(), true;
      if (action === 'export') return send(), true;
      return paths.answer(action);
    },
    close: () => paths.close(),
  };
}

