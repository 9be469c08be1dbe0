// What the page holds while it is open: what the server has, the desks, and what is asked next.

import { get } from './connection.js';
import { Desk } from './desk.js';
import { DEFAULTS } from './request.js';

/** Loads what does not change while the server runs. */
export async function load() {
  const [about, models, plugins] = await Promise.all([get('api/v1/about'), get('api/v1/models'), get('api/v1/plugins')]);
  return {
    about, models, plugins,
    /** The home desk: one path and its forks. */
    desk: new Desk(),
    /** The desk of the comparison: two lanes. */
    bench: new Desk(),
    /** What the form holds. */
    asked: { ...DEFAULTS, model: about.default_model ?? models[0]?.name ?? null },
    /** What the two sides of the comparison hold. */
    sides: [null, null],
    /** The node and the model that the node screen shows. */
    node: { model: null, id: null },
    modelOf: (name) => models.find((model) => model.name === name) ?? models[0],
    graphs: models.filter((model) => model.kind === 'graph'),
  };
}
