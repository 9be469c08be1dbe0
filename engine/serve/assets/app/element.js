// DOM elements from plain values: no HTML is ever parsed from text, so no token can become markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'data') Object.assign(node.dataset, value);
    // A style attribute would be refused by the content-security policy; properties set from a script are not.
    else if (name === 'style') for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else if (name in node && typeof value === 'boolean') node[name] = value;
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...present(children));
  return node;
}

const present = (children) => children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);

/** Puts children in the place of what a node holds; what is null is left out. */
export function put(node, ...children) {
  node.replaceChildren(...present(children));
}

/** An HTML element: `element('p', {class: 'note'}, 'text', child)`; `on…` attributes are listeners. */
export function element(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same in SVG's namespace. */
export function drawing(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** A push button; `quiet` ones have no frame until they are pointed at. */
export function button(label, press, attributes = {}) {
  return element('button', { type: 'button', onclick: press, ...attributes }, label);
}

/** A labelled control: the label above, the control below. */
export function field(label, control, attributes = {}) {
  return element('label', { class: 'field', ...attributes }, element('span', { class: 'field-label' }, label), control);
}
