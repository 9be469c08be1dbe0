// A rectangle drawn over the map with Shift held: what lies in it is the selection.

import { element } from '../element.js';

/** Listens on the map's place; `chosen(rectangle)` hears the corners in the place's own pixels. */
export function lasso(place, chosen) {
  let from = null, frame = null;
  const at = (event) => {
    const { left, top } = place.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  const corners = (to) => ({ left: Math.min(from.x, to.x), top: Math.min(from.y, to.y), right: Math.max(from.x, to.x), bottom: Math.max(from.y, to.y) });

  function draw(event) {
    const { left, top, right, bottom } = corners(at(event));
    Object.assign(frame.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  }
  // In the capturing phase: the canvas below would move its camera else.
  const listen = (name, does) => place.addEventListener(name, does, { capture: true });
  listen('mousedown', (event) => {
    if (!event.shiftKey || event.button) return;
    event.stopPropagation();
    event.preventDefault();
    from = at(event);
    frame = element('div', { class: 'lasso' });
    place.append(frame);
    draw(event);
  });
  listen('mousemove', (event) => {
    if (!from) return;
    event.stopPropagation();
    draw(event);
  });
  listen('mouseup', (event) => {
    if (!from) return;
    event.stopPropagation();
    const rectangle = corners(at(event));
    frame.remove();
    from = null;
    chosen(rectangle);
  });
}
