// The map on a WebGL canvas. Sigma draws; what is drawn was laid out and thinned by the server.

import { cividis } from '../colour.js';
import { seenTheme, still } from '../theme.js';

/** Whether the browser draws with WebGL at all. */
export function hasWebGl() {
  try {
    const context = document.createElement('canvas').getContext('webgl2');
    context?.getExtension('WEBGL_lose_context')?.loseContext();
    return Boolean(context);
  } catch {
    return false;
  }
}

let loading;
/** Sigma and graphology, fetched when a map is first opened. */
function libraries() {
  const script = (source) => new Promise((resolve, reject) => {
    const tag = document.createElement('script');
    Object.assign(tag, { src: source, onload: resolve, onerror: () => reject(new Error(source)) });
    document.head.append(tag);
  });
  loading ??= script('vendor/graphology.min.js').then(() => script('vendor/sigma.min.js'));
  return loading;
}

const property = (name) => {
  // light-dark() is resolved by asking for a real property.
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

/** A label in the theme's colours; sigma's own hover draws a white box whatever the theme. */
function drawHover(context, data, settings) {
  const size = settings.labelSize;
  context.font = `600 ${size}px ${settings.labelFont}`;
  const width = context.measureText(data.label ?? '').width + 12;
  context.fillStyle = property('--raised');
  context.strokeStyle = property('--line-strong');
  context.beginPath();
  context.roundRect(data.x + data.size + 2, data.y - size / 2 - 5, width, size + 10, 5);
  context.fill();
  context.stroke();
  context.fillStyle = property('--ink');
  context.fillText(data.label ?? '', data.x + data.size + 8, data.y + size / 3);
}

/** The canvas; `press(id)` hears a node, `moved(box, ratio)` the part of the map that is seen. */
export async function mapCanvas(place, { press, moved }) {
  await libraries();
  const { graphology: Graph, Sigma } = globalThis;
  const empty = () => new Graph({ type: 'directed', multi: false });
  let graph = empty();
  const sigma = new Sigma(graph, place, {
    labelFont: getComputedStyle(document.body).fontFamily, labelSize: 13, labelDensity: 1, labelGridCellSize: 110, labelRenderedSizeThreshold: 3,
    // A kind of its own comes after sigma's own in the order of drawing: the path lies over the other edges.
    edgeProgramClasses: { route: Sigma.rendering.EdgeArrowProgram },
    defaultEdgeType: 'line', hideEdgesOnMove: true, zIndex: true, minCameraRatio: 0.005, maxCameraRatio: 2, allowInvalidContainer: true,
    enableEdgeEvents: false, defaultDrawNodeHover: drawHover, stagePadding: 40,
  });
  let fitted = false;

  /**
   * Frames what is linked, once a model: bytes that nothing leads to lie around it and would make it small. The frame
   * stays from then on, or the map would jump with each level.
   */
  function fit(map, prefix) {
    if (fitted || !map.edges.length) return;
    const ends = new Set(map.edges.flatMap((edge) => [prefix + edge.source, prefix + edge.target]));
    const spots = [...ends].filter((key) => graph.hasNode(key)).map((key) => graph.getNodeAttributes(key));
    if (spots.length < 3) return;
    const range = (values) => [Math.min(...values), Math.max(...values)];
    sigma.setCustomBBox({ x: range(spots.map((spot) => spot.x)), y: range(spots.map((spot) => spot.y)) });
    fitted = true;
  }
  sigma.on('clickNode', ({ node }) => press(node));

  function box() {
    const { width, height } = sigma.getDimensions();
    const [a, b] = [sigma.viewportToGraph({ x: 0, y: height }), sigma.viewportToGraph({ x: width, y: 0 })];
    const clamp = (value) => Math.min(1, Math.max(0, value));
    return { x0: clamp(Math.min(a.x, b.x)), y0: clamp(Math.min(a.y, b.y)), x1: clamp(Math.max(a.x, b.x)), y1: clamp(Math.max(a.y, b.y)) };
  }
  let waiting;
  sigma.getCamera().on('updated', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => moved(box(), sigma.getCamera().ratio), 250);
  });

  let colours = {};
  function colour() {
    const channels = (name) => property(name).match(/\d+/g).slice(0, 3).map(Number);
    colours = { edge: channels('--ink'), ground: channels('--raised'), strong: property('--accent'), ink: property('--ink') };
    sigma.setSetting('labelColor', { color: colours.ink });
  }
  colour();

  /**
   * An edge is the fainter the less it weighs: thousands of them must not become a wall. The colour is mixed with the
   * ground here, since sigma adds up what is transparent.
   */
  const faint = (part) => {
    // A few shades: sigma keeps every colour it has read.
    const share = 0.07 + 0.025 * Math.round(16 * Math.sqrt(part));
    return `rgb(${colours.ground.map((ground, at) => Math.round(ground + share * (colours.edge[at] - ground))).join(', ')})`;
  };
  const nodeColour = (part) => cividis(seenTheme() === 'dark' ? 0.35 + 0.65 * part : 0.1 + 0.75 * part);
  return {
    sigma,
    box,
    /** Shows what the server sent, the path of tokens over it. */
    show(map, path = [], marked = null, selected = new Set()) {
      // Built apart and handed over whole: a graph that is listened to tells of each of its thousands of edges.
      graph = empty();
      colour();
      const spots = map.clusters.length
        ? map.clusters.map((cluster) => ({ key: `c${cluster.id}`, x: cluster.x, y: cluster.y, weight: cluster.count, label: cluster.label.replaceAll(/<0x([0-9A-F]{2})>/g, '$1\u2009'), cluster: cluster.id }))
        : map.nodes.map((node) => ({ key: String(node.id), x: node.x, y: node.y, weight: node.size, label: node.display.replaceAll(/<0x([0-9A-F]{2})>/g, '$1\u2009'), cluster: node.cluster }));
      const most = Math.max(1, ...spots.map((spot) => spot.weight));
      const biggest = map.clusters.length ? 26 : 11;
      const onPath = new Set(path.map(String));
      for (const spot of spots) {
        if (graph.hasNode(spot.key)) continue;
        const part = Math.log1p(spot.weight) / Math.log1p(most);
        const lit = onPath.has(spot.key) || spot.key === String(marked) || selected.has(spot.key);
        graph.addNode(spot.key, {
          x: spot.x, y: spot.y, label: spot.label, size: Math.max(2, biggest * Math.sqrt(spot.weight / most)) + (lit ? 3 : 0),
          color: lit ? colours.strong : nodeColour(part), zIndex: lit ? 2 : 1, forceLabel: lit,
        });
      }
      const prefix = map.clusters.length ? 'c' : '';
      fit(map, prefix);
      const heaviest = Math.max(1e-9, ...map.edges.map((edge) => edge.weight));
      for (const edge of map.edges) {
        const [from, to] = [prefix + edge.source, prefix + edge.target];
        if (from === to || !graph.hasNode(from) || !graph.hasNode(to) || graph.hasEdge(from, to)) continue;
        graph.addEdge(from, to, { size: 0.4 + 3.5 * Math.sqrt(edge.weight / heaviest), color: faint(edge.weight / heaviest), zIndex: 0 });
      }
      for (let at = 1; at < path.length; at += 1) {
        const [from, to] = [String(path[at - 1]), String(path[at])];
        if (from === to || !graph.hasNode(from) || !graph.hasNode(to)) continue;
        const look = { size: 3, color: colours.strong, type: 'route', zIndex: 3 };
        if (graph.hasEdge(from, to)) graph.mergeEdgeAttributes(graph.edge(from, to), look);
        else graph.addEdge(from, to, look);
      }
      sigma.setGraph(graph);
    },
    /** Another model is to be shown: its frame is its own. */
    refit() {
      fitted = false;
    },
    /** The keys of the spots in a rectangle of the place. */
    within({ left, top, right, bottom }) {
      return new Set(graph.filterNodes((key, { x, y }) => {
        const at = sigma.graphToViewport({ x, y });
        return at.x >= left && at.x <= right && at.y >= top && at.y <= bottom;
      }));
    },
    zoom(factor) {
      const camera = sigma.getCamera();
      const state = { ratio: factor ? camera.ratio / factor : 1, ...(factor ? {} : { x: 0.5, y: 0.5 }) };
      if (still()) camera.setState(state);
      else camera.animate(state, { duration: 180 });
    },
    pan(dx, dy) {
      const camera = sigma.getCamera();
      camera.setState({ x: camera.x + dx * camera.ratio, y: camera.y + dy * camera.ratio });
    },
    close() {
      clearTimeout(waiting);
      sigma.kill();
    },
  };
}
