// Selection on the map: a rectangle drawn with Shift held.

import { element } from '../element.js';

/** Listen on the container of the map; `chosen(rectangle)` is called with the corners in its pixels. */
export function lasso(container, chosen) {
  let from = null, frame = null;
  const at = (event) => {
    const { left, top } = container.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  const corners = (to) => ({ left: Math.min(from.x, to.x), top: Math.min(from.y, to.y), right: Math.max(from.x, to.x), bottom: Math.max(from.y, to.y) });

  function draw(event) {
    const { left, top, right, bottom } = corners(at(event));
    Object.assign(frame.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  }
  // In the capturing phase, or the canvas below would move its camera.
  const listen = (name, does) => container.addEventListener(name, does, { capture: true });
  listen('mousedown', (event) => {
    if (!event.shiftKey || event.button) return;
    event.stopPropagation();
    event.preventDefault();
    from = at(event);
    frame = element('div', { class: 'lasso' });
    container.append(frame);
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
