// The help dialog: the keyboard map, from the same list that answers the keys.

import { dialog } from './dialog.js';
import { element } from './element.js';
import { KEYS } from './keyboard.js';
import { say } from './language.js';

/** Shows the keys and what the marks in the drawings mean. */
export function help() {
  return dialog(say('help.title'), element('div', { class: 'help-scroll', tabindex: 0, role: 'region', 'aria-label': say('help.title') },
    element('dl', { class: 'help' },
      KEYS.map(([, action, sign]) => [
        element('dt', {}, element('kbd', {}, sign)),
        element('dd', {}, say(`key.${action}`)),
      ]))));
}
