// Modal dialogs, from the browser's own element, which keeps the focus inside and returns it afterwards.

import { button, element, put } from './element.js';
import { t } from './language.js';

let counter = 0;

/** Open a dialog. Resolves with its return value, '' if it was dismissed. */
export function dialog(title, content, actions = []) {
  const id = `dialog-${(counter += 1)}`;
  const came = document.activeElement;
  return new Promise((resolve) => {
    const box = element('dialog', { 'aria-labelledby': id, class: 'dialog' },
      element('form', { method: 'dialog' },
        element('div', { class: 'dialog-head' },
          element('h2', { id }, title),
          button('✕', () => box.close(''), { class: 'quiet', 'aria-label': t('dialog.close') })),
        content,
        actions.length
          ? element('div', { class: 'dialog-end' },
              button(t('dialog.cancel'), () => box.close('')),
              actions.map(({ label, value }) => element('button', { type: 'submit', value, class: 'primary' }, label)))
          : null));
    box.addEventListener('close', () => {
      const value = box.returnValue;
      box.remove();
      came?.focus?.({ preventScroll: true });
      resolve(value);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask for one line of text. Resolves with null if dismissed. */
export async function ask(title, label, value = '') {
  const line = element('input', { type: 'text', value, autofocus: true, required: true, maxlength: 200 });
  const answer = await dialog(title, element('label', { class: 'field' }, element('span', { class: 'field-label' }, label), line),
    [{ label: t('dialog.ok'), value: 'ok' }]);
  return answer === 'ok' ? line.value.trim() || null : null;
}

/** Show a message in the corner for five seconds; an error stays until it is closed. */
export function notice(text, { error = false } = {}) {
  const container = document.getElementById('notice');
  put(container, element('span', {}, text),
    button('✕', () => { container.hidden = true; }, { class: 'quiet', 'aria-label': t('dialog.close') }));
  container.hidden = false;
  clearTimeout(notice.waiting);
  if (!error) notice.waiting = setTimeout(() => { container.hidden = true; }, 5000);
}
