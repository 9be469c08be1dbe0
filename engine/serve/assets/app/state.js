// The state of the page: what the server has, the open paths, and the fields of the form.

import { get } from './connection.js';
import { PathSet } from './path_set.js';
import { DEFAULTS } from './request.js';

/** Load what does not change while the server runs. */
export async function load() {
  const [about, models, plugins] = await Promise.all([get('api/v1/about'), get('api/v1/models'), get('api/v1/plugins')]);
  return {
    about, models, plugins,
    /** The paths of the path screen: one path and its forks. */
    paths: new PathSet(),
    /** The two paths of the compare screen. */
    comparison: new PathSet(),
    /** The request in the form. */
    request: { ...DEFAULTS, model: about.default_model ?? models[0]?.name ?? null },
    /** The requests of the two sides of the compare screen. */
    sides: [null, null],
    /** The node and the model of the node screen. */
    node: { model: null, id: null },
    modelOf: (name) => models.find((model) => model.name === name) ?? models[0],
    graphs: models.filter((model) => model.kind === 'graph'),
  };
}
