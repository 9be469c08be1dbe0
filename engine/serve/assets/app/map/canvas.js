// The map on a WebGL canvas, drawn by sigma. The server computes the layout and limits what is drawn.

import { cividis } from '../colour.js';
import { effectiveTheme, reducedMotion } from '../theme.js';

/** Whether the browser supports WebGL. */
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
/** Load sigma and graphology, when a map is first opened. */
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
  // light-dark() is resolved by reading a real property.
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

/** Draw a label in the colours of the theme; sigma's own hover label is always white. */
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

/** Create the canvas; `press(key)` is called for a click on a node, `moved(box, ratio)` when the visible part changes. */
export async function mapCanvas(container, { press, moved }) {
  await libraries();
  const { graphology: Graph, Sigma } = globalThis;
  const empty = () => new Graph({ type: 'directed', multi: false });
  let graph = empty();
  const sigma = new Sigma(graph, container, {
    labelFont: getComputedStyle(document.body).fontFamily, labelSize: 13, labelDensity: 1, labelGridCellSize: 110, labelRenderedSizeThreshold: 3,
    // A kind of our own is drawn after sigma's own kinds, so that the path covers the other edges.
    edgeProgramClasses: { route: Sigma.rendering.EdgeArrowProgram },
    defaultEdgeType: 'line', hideEdgesOnMove: true, zIndex: true, minCameraRatio: 0.005, maxCameraRatio: 2, allowInvalidContainer: true,
    enableEdgeEvents: false, defaultDrawNodeHover: drawHover, stagePadding: 40,
  });
  let fitted = false;

  /**
   * Fit the frame to the linked nodes, once for each model: unlinked bytes lie around them and would make them small. The
   * frame is then kept, or the map would jump with each level.
   */
  function fit(map, prefix) {
    if (fitted || !map.edges.length) return;
    const ends = new Set(map.edges.flatMap((edge) => [prefix + edge.source, prefix + edge.target]));
    const points = [...ends].filter((key) => graph.hasNode(key)).map((key) => graph.getNodeAttributes(key));
    if (points.length < 3) return;
    const range = (values) => [Math.min(...values), Math.max(...values)];
    sigma.setCustomBBox({ x: range(points.map((point) => point.x)), y: range(points.map((point) => point.y)) });
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
   * The colour of an edge, fainter for a smaller weight, so that thousands of edges remain readable. It is mixed with the
   * background here, since sigma adds transparent colours up.
   */
  const faint = (fraction) => {
    // Only a few shades, since sigma keeps every colour that it has read.
    const opacity = 0.07 + 0.025 * Math.round(16 * Math.sqrt(fraction));
    return `rgb(${colours.ground.map((ground, at) => Math.round(ground + opacity * (colours.edge[at] - ground))).join(', ')})`;
  };
  const nodeColour = (fraction) => cividis(effectiveTheme() === 'dark' ? 0.35 + 0.65 * fraction : 0.1 + 0.75 * fraction);
  return {
    sigma,
    box,
    /** Show a map of the server, with a path of tokens over it. */
    show(map, path = [], marked = null, selected = new Set()) {
      // Built first and set at once: a graph that sigma observes reports each of its thousands of edges.
      graph = empty();
      colour();
      const points = map.clusters.length
        ? map.clusters.map((cluster) => ({ key: `c${cluster.id}`, x: cluster.x, y: cluster.y, weight: cluster.count, label: cluster.label.replaceAll(/<0x([0-9A-F]{2})>/g, '$1\u2009'), cluster: cluster.id }))
        : map.nodes.map((node) => ({ key: String(node.id), x: node.x, y: node.y, weight: node.size, label: node.display.replaceAll(/<0x([0-9A-F]{2})>/g, '$1\u2009'), cluster: node.cluster }));
      const most = Math.max(1, ...points.map((point) => point.weight));
      const biggest = map.clusters.length ? 26 : 11;
      const onPath = new Set(path.map(String));
      for (const point of points) {
        if (graph.hasNode(point.key)) continue;
        const fraction = Math.log1p(point.weight) / Math.log1p(most);
        const lit = onPath.has(point.key) || point.key === String(marked) || selected.has(point.key);
        graph.addNode(point.key, {
          x: point.x, y: point.y, label: point.label, size: Math.max(2, biggest * Math.sqrt(point.weight / most)) + (lit ? 3 : 0),
          color: lit ? colours.strong : nodeColour(fraction), zIndex: lit ? 2 : 1, forceLabel: lit,
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
    /** Fit the frame again, for another model. */
    refit() {
      fitted = false;
    },
    /** The keys of the nodes in a rectangle of the canvas. */
    within({ left, top, right, bottom }) {
      return new Set(graph.filterNodes((key, { x, y }) => {
        const at = sigma.graphToViewport({ x, y });
        return at.x >= left && at.x <= right && at.y >= top && at.y <= bottom;
      }));
    },
    zoom(factor) {
      const camera = sigma.getCamera();
      const state = { ratio: factor ? camera.ratio / factor : 1, ...(factor ? {} : { x: 0.5, y: 0.5 }) };
      if (reducedMotion()) camera.setState(state);
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
