// DOM elements from plain values. No HTML is parsed from text, so no token can become markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'data') Object.assign(node.dataset, value);
    // The content-security policy refuses a style attribute, but not properties that a script sets.
    else if (name === 'style') for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else if (name in node && typeof value === 'boolean') node[name] = value;
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...present(children));
  return node;
}

const present = (children) => children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);

/** Replace the children of a node; null is left out. */
export function put(node, ...children) {
  node.replaceChildren(...present(children));
}

/** Create an HTML element: `element('p', {class: 'note'}, 'text', child)`; `on…` attributes are listeners. */
export function element(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Create an SVG element, as {@link element}. */
export function drawing(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Create a push button; with the class `quiet` it has no border until it is hovered. */
export function button(label, press, attributes = {}) {
  return element('button', { type: 'button', onclick: press, ...attributes }, label);
}

/** Put a label above a control. */
export function field(label, control, attributes = {}) {
  return element('label', { class: 'field', ...attributes }, element('span', { class: 'field-label' }, label), control);
}
