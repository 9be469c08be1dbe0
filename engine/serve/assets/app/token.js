// Display of tokens: spaces and line ends as signs, bytes that are not a character as hexadecimal capsules, with a bracket
// over the bytes of one character. Never U+FFFD.

import { drawing, element } from './element.js';

const SIGNS = { ' ': '␣', '\n': '⏎', '\r': '␍', '\t': '⇥', '\u00a0': '⍽', '\u3000': '□' };
// Characters without a shape: controls, format characters, surrogates, private use, U+FFFD.
const SHAPELESS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\ufffd]/u;
// A joiner between emoji and a variation selector have a shape together with their neighbours.
const JOINER = /[\u200d\ufe0e\ufe0f]/;

// Width of a byte's capsule in a drawing.
const BYTE = 22;

const hexOf = (character) =>
  [...new TextEncoder().encode(character)].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'));

/** Split `E6 98` into `['E6', '98']`. */
export const bytesOf = (hex) => (hex ?? '').toUpperCase().match(/[0-9A-F]{2}/g) ?? [];

/** The pieces of a token as it is displayed: `{kind: 'text' | 'sign' | 'byte', text}`. */
export function pieces(token) {
  if (token.text === null || token.text === undefined) {
    const bytes = bytesOf(token.bytes_hex);
    if (bytes.length) return bytes.map((text) => ({ kind: 'byte', text }));
    return [{ kind: 'name', text: token.display ?? `#${token.id}` }];
  }
  if (token.text === '') return [{ kind: 'name', text: token.display || `#${token.id}` }];
  const found = [];
  const add = (kind, text) => {
    const last = found.at(-1);
    if (kind === 'text' && last?.kind === 'text') last.text += text;
    else found.push({ kind, text });
  };
  for (const character of token.text) {
    if (character in SIGNS) add('sign', SIGNS[character]);
    else if (JOINER.test(character) && found.at(-1)?.kind === 'text') add('text', character);
    else if (SHAPELESS.test(character)) hexOf(character).forEach((byte) => add('byte', byte));
    else add('text', character);
  }
  return found;
}

/** A token as one line of plain text, for labels and tables. */
export function label(token) {
  const all = pieces(token);
  return all.map((piece, at) => (piece.kind === 'byte' && at ? ' ' : '') + piece.text).join('');
}

/** The language of a token by its script; undefined inherits that of the page. */
export function languageOf(token) {
  const text = token.text ?? token.joined ?? '';
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return 'ja';
  if (/\p{Script=Hangul}/u.test(text)) return 'ko';
  if (/\p{Script=Han}|[，。、；：！？「」『』《》]/u.test(text)) return 'zh-CN';
  if (/[A-Za-z]/.test(text)) return 'en';
  return undefined;
}

// Height of the picture of a code.
const TILE = 16;

/** The picture of a code: the pixels of its patch, or a bar for each band of its spectrum. Null for other tokens. */
export function tile(token) {
  const { modality, columns, values } = token.code ?? {};
  if (!columns) return null;
  const picture = (width, rects) =>
    drawing('svg', { class: 'token-code', viewBox: `0 0 ${width} ${TILE}`, width, height: TILE, 'aria-hidden': 'true' }, rects);
  if (modality === 'image') {
    const side = TILE / (values.length / columns);
    return picture(side * columns, values.map((value, at) => drawing('rect', {
      x: (at % columns) * side, y: Math.floor(at / columns) * side, width: side, height: side, fill: `rgb(${value},${value},${value})`,
    })));
  }
  const width = 2 * TILE;
  return picture(width, values.map((value, at) => drawing('rect', {
    class: 'band', x: at * width / columns, y: TILE * (1 - value / 255), width: width / columns, height: TILE * value / 255,
  })));
}

/** A token as an element: signs are faint, bytes are capsules; a code has its picture before its name. */
export function shown(token, attributes = {}) {
  const { class: kind, ...others } = attributes;
  return element('bdi', { class: `token ${kind ?? ''}`.trim(), lang: languageOf(token), ...others }, tile(token),
    pieces(token).map((piece) =>
      piece.kind === 'text' ? piece.text : element('span', { class: `token-${piece.kind}` }, piece.text)));
}

/** A token as SVG text, cut to a width, with the picture of a code before it; `measure` returns the width of a text. */
export function shownDrawing(token, position, room, measure) {
  const { class: kind, x, y } = position;
  const picture = tile(token);
  const group = drawing('g', { lang: languageOf(token) }, picture ?? '');
  let left = room;
  if (picture) {
    picture.setAttribute('x', x);
    picture.setAttribute('y', y - 13);
    left -= Number(picture.getAttribute('width')) + 3;
  }
  for (const piece of pieces(token)) {
    let cut = piece.text;
    if (measure(cut) > left) {
      const characters = [...cut];
      while (characters.length && measure(characters.join('') + '…') > left) characters.pop();
      cut = characters.join('') + '…';
    }
    const at = x + room - left;
    if (piece.kind === 'byte' && cut === piece.text) {
      group.append(drawing('rect', { class: 'capsule', x: at, y: y - 12, width: BYTE, height: 15, rx: 4 }),
        drawing('text', { class: 'token-byte', x: at + BYTE / 2, y: y - 0.5, 'text-anchor': 'middle' }, cut));
      left -= BYTE + 3;
    } else {
      group.append(drawing('text', { class: piece.kind === 'text' ? kind : `${kind} token-${piece.kind}`, x: at, y }, cut));
      left -= measure(cut);
    }
    if (left <= 0 || cut !== piece.text) break;
  }
  return group;
}

/**
 * Tokens in a row, with a bracket around the pieces of one character: a run of tokens without text of their own and the
 * same `joined`. `chip(token, at)` creates each.
 */
export function row(tokens, chip) {
  const out = [];
  for (let at = 0; at < tokens.length; at += 1) {
    const token = tokens[at];
    if (!isPiece(token)) {
      out.push(chip(token, at));
      continue;
    }
    const from = at;
    let expected = hexOf(token.joined).length - bytesOf(token.bytes_hex).length;
    while (expected > 0 && isPiece(tokens[at + 1]) && tokens[at + 1].joined === token.joined) {
      at += 1;
      expected -= bytesOf(tokens[at].bytes_hex).length;
    }
    out.push(element('span', { class: 'joined' },
      element('span', { class: 'joined-character', lang: languageOf(token) }, token.joined),
      element('span', { class: 'joined-pieces' },
        tokens.slice(from, at + 1).map((piece, offset) => chip(piece, from + offset)))));
  }
  return out;
}

const isPiece = (token) => Boolean(token && token.joined && (token.text === null || token.text === undefined));
