// Modal dialogs: the platform's own, so focus stays inside and returns where it was.

import { button, element, put } from './element.js';
import { say } from './language.js';

let counter = 0;

/** Opens a dialog; closing it, however, resolves with its return value ('' when it was dismissed). */
export function dialog(title, content, actions = []) {
  const id = `dialog-${(counter += 1)}`;
  const came = document.activeElement;
  return new Promise((resolve) => {
    const box = element('dialog', { 'aria-labelledby': id, class: 'dialog' },
      element('form', { method: 'dialog' },
        element('div', { class: 'dialog-head' },
          element('h2', { id }, title),
          button('✕', () => box.close(''), { class: 'quiet', 'aria-label': say('dialog.close') })),
        content,
        actions.length
          ? element('div', { class: 'dialog-end' },
              button(say('dialog.cancel'), () => box.close('')),
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

/** Asks for one line of text; null when dismissed. */
export async function ask(title, label, value = '') {
  const line = element('input', { type: 'text', value, autofocus: true, required: true, maxlength: 200 });
  const answer = await dialog(title, element('label', { class: 'field' }, element('span', { class: 'field-label' }, label), line),
    [{ label: say('dialog.ok'), value: 'ok' }]);
  return answer === 'ok' ? line.value.trim() || null : null;
}

/** A passing message in the corner, said aloud; an error stays until it is closed. */
export function notice(text, { error = false } = {}) {
  const place = document.getElementById('notice');
  put(place, element('span', {}, text),
    button('✕', () => { place.hidden = true; }, { class: 'quiet', 'aria-label': say('dialog.close') }));
  place.hidden = false;
  clearTimeout(notice.waiting);
  if (!error) notice.waiting = setTimeout(() => { place.hidden = true; }, 5000);
}
