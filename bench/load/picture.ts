/**
 * A result as a picture: above the transactions a second, below the latency (p50 and p99, a logarithmic scale), over
 * the time of the measurement. SVG by hand: it needs no program to be drawn, and a browser to be seen.
 */
import type { Result } from './measure.ts';
import type { Point } from './timeline.ts';

const WIDTH = 860;
const LEFT = 76;
const RIGHT = 24;
const PANEL = 170;
const RATE_TOP = 80;
const LATENCY_TOP = RATE_TOP + PANEL + 62;
const HEIGHT = LATENCY_TOP + PANEL + 48;
const INNER = WIDTH - LEFT - RIGHT;

const RATE = '#1f6f8b';
const P50 = '#3a7d44';
const P99 = '#b5532a';
const INK = '#222222';
const FAINT = '#dddddd';

const escapeText = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const at = (n: number): string => n.toFixed(1);

type Anchor = 'start' | 'middle' | 'end';

function label(
  x: number,
  y: number,
  text: string,
  anchor: Anchor = 'start',
  colour = INK,
  size = 12,
): string {
  return `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}" fill="${colour}" font-size="${size}">${escapeText(text)}</text>`;
}

function rule(x1: number, y1: number, x2: number, y2: number, colour: string): string {
  return `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" stroke="${colour}"/>`;
}

function curve(points: Array<[number, number]>, colour: string): string {
  const path = points.map(([x, y]) => `${at(x)},${at(y)}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.8" stroke-linejoin="round"/>`;
}

/** The least of 1, 2, 5, 10, 20 ... that is not below `n`. */
export function roundUp(n: number): number {
  if (!(n > 0)) return 1;
  const decade = 10 ** Math.floor(Math.log10(n));
  const step = [1, 2, 5, 10].find((each) => each * decade >= n * (1 - 1e-12)) as number;
  return step * decade;
}

const quantity = (n: number): string => n.toLocaleString('en', { maximumSignificantDigits: 3 });

const duration = (us: number): string => (us < 1000 ? `${quantity(us)} µs` : `${quantity(us / 1000)} ms`);

function axes(top: number, seconds: number): string[] {
  const bottom = top + PANEL;
  const parts = [rule(LEFT, bottom, WIDTH - RIGHT, bottom, INK), rule(LEFT, top, LEFT, bottom, INK)];
  for (let i = 0; i <= 5; i++) {
    const x = LEFT + (INNER * i) / 5;
    parts.push(label(x, bottom + 16, `${quantity((seconds * i) / 5)} s`, 'middle'));
  }
  return parts;
}

function ratePanel(points: Point[], seconds: number, x: (point: Point) => number): string[] {
  const most = roundUp(Math.max(...points.map(({ rate }) => rate)));
  const y = (rate: number) => RATE_TOP + PANEL * (1 - rate / most);
  const parts: string[] = [];
  for (let i = 1; i <= 4; i++) {
    const rate = (most * i) / 4;
    parts.push(rule(LEFT, y(rate), WIDTH - RIGHT, y(rate), FAINT));
    parts.push(label(LEFT - 8, y(rate) + 4, quantity(rate), 'end'));
  }
  parts.push(label(LEFT, RATE_TOP - 10, 'transactions a second', 'start', RATE));
  parts.push(...axes(RATE_TOP, seconds));
  parts.push(
    curve(
      points.map((point) => [x(point), y(point.rate)]),
      RATE,
    ),
  );
  return parts;
}

function latencyPanel(points: Point[], seconds: number, x: (point: Point) => number): string[] {
  const seen = points.flatMap(({ p50, p99 }) => [p50, p99]).filter((us) => us > 0);
  const low = Math.floor(Math.log10(Math.min(...seen, 1e6)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...seen, 1))));
  const y = (us: number) => LATENCY_TOP + PANEL * (1 - (Math.log10(Math.max(us, 1)) - low) / (high - low));
  const parts: string[] = [];
  for (let decade = low; decade <= high; decade++) {
    parts.push(rule(LEFT, y(10 ** decade), WIDTH - RIGHT, y(10 ** decade), FAINT));
    parts.push(label(LEFT - 8, y(10 ** decade) + 4, duration(10 ** decade), 'end'));
  }
  parts.push(label(LEFT, LATENCY_TOP - 10, 'latency p50', 'start', P50));
  parts.push(label(LEFT + 84, LATENCY_TOP - 10, 'p99', 'start', P99));
  parts.push(...axes(LATENCY_TOP, seconds));
  for (const [of, colour] of [
    [({ p50 }: Point) => p50, P50],
    [({ p99 }: Point) => p99, P99],
  ] as const) {
    const drawn = points.filter((point) => of(point) > 0);
    parts.push(
      curve(
        drawn.map((point) => [x(point), y(of(point))]),
        colour,
      ),
    );
  }
  return parts;
}

export function picture(result: Result, title: string): string {
  const { timeline, seconds, latency, rate, cpu } = result;
  const span = timeline.at(-1)?.seconds ?? seconds;
  const width = span / Math.max(1, timeline.length);
  // a point stands in the middle of its interval
  const x = (point: Point) => LEFT + (INNER * (point.seconds - width / 2)) / span;
  const facts = [
    `${quantity(rate)}/s`,
    `p50 ${duration(latency.p50)}`,
    `p99 ${duration(latency.p99)}`,
    `p99.9 ${duration(latency.p999)}`,
    ...(cpu ? [`server ${cpu.usPerTransaction.toFixed(1)} µs CPU a transaction`] : []),
    `${result.errors} errors`,
  ];
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    label(LEFT, 22, title, 'start', INK, 15),
    label(LEFT, 40, facts.join(' · ')),
    ...ratePanel(timeline, span, x),
    ...latencyPanel(timeline, span, x),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif">
${parts.join('\n')}
</svg>
`;
}
