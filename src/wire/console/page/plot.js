// A small plot: the last points of one series, as an SVG with its own text.

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [120, 32];

/** How many points a plot shows. */
export const POINTS = 120;

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

/** A plot that `update` draws anew. `say` writes a value as text. */
export function plot(title, say) {
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'plot', role: 'img' });
  const [area, line] = [shape('path', { class: 'area' }), shape('path', {})];
  svg.append(shape('line', { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), area, line);
  const caption = document.createElement('p');
  caption.className = 'caption';
  const root = document.createElement('div');
  root.append(svg, caption);
  return {
    root,
    update(values) {
      const most = Math.max(...values, 0);
      const now = values.at(-1) ?? 0;
      const step = WIDTH / (POINTS - 1);
      const from = WIDTH - (values.length - 1) * step;
      const at = (value, index) => `${(from + index * step).toFixed(1)},${(HEIGHT - 1 - (most ? value / most : 0) * (HEIGHT - 4)).toFixed(1)}`;
      const path = values.map(at).join('L');
      line.setAttribute('d', values.length > 1 ? `M${path}` : '');
      area.setAttribute('d', values.length > 1 ? `M${from.toFixed(1)},${HEIGHT}L${path}L${WIDTH},${HEIGHT}Z` : '');
      caption.textContent = `${say(now)}, at most ${say(most)}`;
      svg.setAttribute('aria-label', `${title}, last two minutes: now ${say(now)}, at most ${say(most)}`);
    },
  };
}
