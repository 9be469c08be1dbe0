// The help dialog: the keyboard shortcuts.

import { dialog } from './dialog.js';
import { element } from './element.js';
import { KEYS } from './keyboard.js';
import { t } from './language.js';

/** Open the help dialog. */
export function help() {
  return dialog(t('help.title'), element('div', { class: 'help-scroll', tabindex: 0, role: 'region', 'aria-label': t('help.title') },
    element('dl', { class: 'help' },
      KEYS.map(([, action, sign]) => [
        element('dt', {}, element('kbd', {}, sign)),
        element('dd', {}, t(`key.${action}`)),
      ]))));
}
