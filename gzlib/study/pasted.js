// A curve that a reader pastes: the law E + A x^-alpha fitted in ln(loss), as gzlib.fitting.fit_curves does, and its page.

const LARGEST_EXPONENT = @MOST@, SMALLEST_EXPONENT = 1e-3, LACK_OF_FIT = @LACK@;

function readNumber(text) {
  const plain = /^[+-]?\d+,\d+$/.test(text) ? text.replace(",", ".") : text;
  return plain === "" ? NaN : Number(plain);
}

// Rows of two numbers, parted by tabs, semicolons, commas or blanks; one line of titles may come first.
function readCurve(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  const commas = !lines.some((line) => /[\t; ]/.test(line.replace(/[;,]\s+/g, (m) => m[0])));
  const parts = lines.map((line) => line.split(/[\t;]/.test(line) ? /\s*[\t;]\s*/ : commas || /,\s/.test(line) ? /\s*,\s*/ : /\s+/));
  const runs = new Map();
  parts.forEach((cells, row) => {
    const [size, loss] = cells.slice(0, 2).map(readNumber);
    if (row === 0 && [size, loss].every(Number.isNaN)) return;
    if (cells.length !== 2) throw new Error(`Line ${row + 1} has ${cells.length} ${cells.length === 1 ? "value" : "values"}: give a size and a loss in each line.`);
    for (const value of [size, loss]) if (!(Number.isFinite(value) && value > 0)) throw new Error(`Line ${row + 1}, "${lines[row]}", does not hold two numbers above zero.`);
    runs.set(size, [...(runs.get(size) || []), Math.log(loss)]);
  });
  const blocks = text.trim().split(/(?:\r?\n[ \t]*){3,}/); // gnuplot's data sets
  const sizes = blocks.length > 1 ? blocks.flatMap((block) => readCurve(block).map((point) => point.size)) : [];
  if (new Set(sizes).size < sizes.length) throw new Error("Two blank lines separate two curves: paste one of them.");
  return [...runs].sort((a, b) => a[0] - b[0]).map(([size, values]) => ({ size, values, log: values.reduce((a, b) => a + b) / values.length }));
}

function lnGamma(z) {
  const series = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 1.208650973866179e-3, -5.395239384953e-6];
  const t = z + 5.5 - (z + 0.5) * Math.log(z + 5.5);
  return -t + Math.log((2.5066282746310005 * series.reduce((sum, c, i) => sum + c / (z + 1 + i), 1.000000000190015)) / z);
}

// Regularised incomplete beta function, by Lentz's continued fraction.
function beta(x, a, b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  let [c, d] = [1, 1 / Math.max(1 - ((a + b) * x) / (a + 1), 1e-300)], value = d;
  for (let m = 1; m < 500; m++) {
    for (const term of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
      d = 1 / (1 + term * d);
      c = 1 + term / c;
      value *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-14) break;
  }
  return (value * Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log(1 - x))) / a;
}

function studentQuantile(p, dof) {
  let [low, high] = [0, 1e7];
  for (let i = 0; i < 200; i++) {
    const middle = i < 60 ? Math.sqrt((low + 1e-9) * high) : (low + high) / 2;
    if (1 - 0.5 * beta(dof / (dof + middle * middle), dof / 2, 0.5) < p) low = middle;
    else high = middle;
  }
  return high;
}

// The smallest value of f on a grid and, by golden sections, between its neighbours: [place, value].
function leastOf(f, grid) {
  const values = grid.map(f);
  const best = values.indexOf(Math.min(...values));
  let [low, high] = [grid[Math.max(best - 1, 0)], grid[Math.min(best + 1, grid.length - 1)]];
  const part = (Math.sqrt(5) - 1) / 2;
  let [left, right] = [high - part * (high - low), low + part * (high - low)];
  let [atLeft, atRight] = [f(left), f(right)];
  for (let i = 0; i < 60; i++) {
    if (atLeft < atRight) [high, right, atRight, left] = [right, left, atLeft, right - part * (right - low)], (atLeft = f(left));
    else [low, left, atLeft, right] = [left, right, atRight, left + part * (high - left)], (atRight = f(right));
  }
  return [[grid[best], values[best]], [left, atLeft], [right, atRight]].sort((a, b) => a[1] - b[1])[0];
}

function solve(matrix, vector) {
  const rows = matrix.map((row, i) => [...row, vector[i]]);
  rows.forEach((_, i) => {
    const pivot = rows.slice(i).reduce((best, row, k) => (Math.abs(row[i]) > Math.abs(rows[best][i]) ? i + k : best), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    rows.forEach((row, k) => {
      if (k === i) return;
      const factor = row[i] / rows[i][i];
      for (let j = i; j < row.length; j++) row[j] -= factor * rows[i][j];
    });
  });
  return rows.map((row, i) => row.at(-1) / row[i]);
}

// {E, A, alpha} with sizes in units of reference; sd of one run, dof, and the function band(size, level).
function fitCurve(points) {
  if (points.length < 4) throw new Error(`${points.length} different sizes: three numbers are fitted, which needs four sizes at least.`);
  const spread = (list) => Math.max(...list) - Math.min(...list);
  if (spread(points.map((p) => p.log)) < 1e-9) throw new Error("The losses do not change with the size: there is no law to fit.");
  const reference = Math.exp(points.reduce((sum, p) => sum + Math.log(p.size), 0) / points.length);
  const x = points.map((p) => Math.log(p.size / reference)), y = points.map((p) => p.log), weight = points.map((p) => p.values.length);
  const total = weight.reduce((a, b) => a + b);
  // With the floor's share of the loss at the reference given, the level is a weighted mean.
  const level = (alpha, share) => {
    const shape = x.map((v) => Math.log(share + (1 - share) * Math.exp(-alpha * v)));
    const height = shape.reduce((sum, v, i) => sum + weight[i] * (y[i] - v), 0) / total;
    return [height, shape.reduce((sum, v, i) => sum + weight[i] * (y[i] - v - height) ** 2, 0)];
  };
  const shares = Array.from({ length: 41 }, (_, i) => 1 - 1e-6 ** (i / 40));
  const best = (logAlpha) => leastOf((share) => level(Math.exp(logAlpha), share)[1], shares);
  const [from, to] = [Math.log(SMALLEST_EXPONENT), Math.log(LARGEST_EXPONENT)];
  const [logAlpha, squares] = leastOf((value) => best(value)[1], Array.from({ length: 61 }, (_, i) => from + ((to - from) * i) / 60));
  const alpha = Math.exp(logAlpha), share = best(logAlpha)[0], loss = Math.exp(level(alpha, share)[0]);
  const law = { E: share * loss, A: (1 - share) * loss, alpha, reference };
  const free = points.length - 3;
  let [variance, dof] = [squares / free, free];
  const seedDof = total - points.length;
  if (seedDof > 0) {
    const inside = points.reduce((sum, p) => sum + p.values.reduce((s, v) => s + (v - p.log) ** 2, 0), 0);
    const ratio = variance / (inside / seedDof);
    const misfit = beta(seedDof / (seedDof + free * ratio), seedDof / 2, free / 2);
    if (inside > 0 && misfit >= LACK_OF_FIT) [variance, dof] = [(squares + inside) / (free + seedDof), free + seedDof];
  }
  const slopes = (v) => {
    const excess = law.A * Math.exp(-alpha * v), all = law.E + excess;
    return [...(share > 1e-9 ? [1 / all] : []), excess / (law.A * all), (-v * excess) / all];
  };
  const gradient = x.map(slopes);
  const size = gradient[0].map((_, j) => Math.sqrt(gradient.reduce((sum, row, i) => sum + weight[i] * row[j] ** 2, 0)));
  const information = size.map((a, j) => size.map((b, k) => gradient.reduce((sum, row, i) => sum + (weight[i] * row[j] * row[k]) / (a * b), 0)));
  const at = (n) => law.E + law.A * (n / reference) ** -alpha;
  return {
    ...law,
    sd: Math.sqrt(variance),
    dof,
    at,
    labels: (target) => (target > law.E ? reference * (law.A / (target - law.E)) ** (1 / alpha) : Infinity),
    band: (n, probability) => {
      const slope = slopes(Math.log(n / reference)).map((v, j) => v / size[j]);
      const solved = solve(information, slope);
      const half = studentQuantile(0.5 * (1 + probability), dof) * Math.sqrt(Math.max(variance * slope.reduce((sum, v, j) => sum + v * solved[j], 0), 0));
      return [at(n) * Math.exp(-half), at(n) * Math.exp(half)];
    },
  };
}

function page(root) {
  const field = (name) => root.querySelector(`[name="${name}"]`);
  const short = (value) => (value === 0 ? "0" : value >= 1e4 || value < 1e-3 ? Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 }) : value.toPrecision(4));

  function draw(points, fit, target) {
    const svg = root.querySelector("svg"), width = Math.min(Math.max(svg.clientWidth || 640, 300), 640); // letters keep their size on a phone
    svg.setAttribute("viewBox", `0 0 ${width} 320`);
    const [left, right, top, bottom] = [56, width - 28, 12, 274];
    const first = points[0].size, end = 10 * points.at(-1).size;
    const sizes = Array.from({ length: 81 }, (_, i) => first * (end / first) ** (i / 80));
    const bands = sizes.map((n) => fit.band(n, 0.95));
    const measured = points.flatMap((p) => p.values.map((v) => [p.size, Math.exp(v)]));
    const values = [...sizes.map(fit.at), ...measured.map((m) => m[1]), ...(target ? [target] : [])];
    const [low, high] = [Math.min(...values) * 0.9, Math.max(...values) * 1.05];
    const x = (n) => (left + ((right - left) * Math.log(n / first)) / Math.log(end / first)).toFixed(1);
    const y = (v) => (bottom - ((bottom - top) * Math.log(Math.min(Math.max(v, low), high) / low)) / Math.log(high / low)).toFixed(1);
    const parts = [];
    for (let n = 10 ** Math.ceil(Math.log10(first)); n <= end; n *= 10) parts.push(`<line class="grid" x1="${x(n)}" x2="${x(n)}" y1="${top}" y2="${bottom}"/><text x="${x(n)}" y="${bottom + 18}" text-anchor="middle">${n.toLocaleString("en")}</text>`);
    const ticks = marks(low, high), texts = markTexts(ticks);
    for (const [i, v] of ticks.entries()) {
      parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${y(v)}" y2="${y(v)}"/><text x="${left - 6}" y="${Number(y(v)) + 4}" text-anchor="end">${texts[i]}</text>`);
    }
    const edge = (k) => sizes.map((n, i) => `${x(n)},${y(bands[i][k])}`);
    parts.push(`<polygon class="band" points="${[...edge(0), ...edge(1).reverse()].join(" ")}"/>`);
    parts.push(`<polyline class="median" points="${sizes.map((n) => `${x(n)},${y(fit.at(n))}`).join(" ")}"/>`);
    if (target) parts.push(`<line class="target" x1="${left}" x2="${right}" y1="${y(target)}" y2="${y(target)}"/>`);
    parts.push(...measured.map(([n, v]) => `<circle class="points" cx="${x(n)}" cy="${y(v)}" r="4"/>`));
    parts.push(`<text x="${(left + right) / 2}" y="312" text-anchor="middle">training size</text>`);
    parts.push(`<text transform="translate(12 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">loss</text>`);
    svg.innerHTML = parts.join("");
  }

  // Chart and table of a curve that cannot be fitted would be blank.
  function show(fitted) {
    for (const name of ["svg", "table"]) root.querySelector(name).toggleAttribute("hidden", !fitted);
  }

  function update() {
    const answer = root.querySelector(".answer"), target = Number(field("target").value) || 0;
    try {
      const points = readCurve(field("curve").value), fit = fitCurve(points), last = points.at(-1).size;
      const rows = [2, 4, 8].map((times) => [times * last, fit.at(times * last), ...fit.band(times * last, 0.95)]);
      root.querySelector("tbody").innerHTML = rows.map((row) => `<tr><th scope="row">${row[0].toLocaleString("en")}</th><td>${short(row[1])}</td><td>${short(row[2])} to ${short(row[3])}</td></tr>`).join("");
      const needed = fit.labels(target);
      const plan = !target ? "" : Number.isFinite(needed) ? ` A loss of ${target} is reached at a size of about ${short(needed)}.` : ` A loss of ${target} is below the floor: it is never reached.`;
      answer.innerHTML = `Loss = ${short(fit.E)} + ${short(fit.A)} × (size / ${short(fit.reference)})<sup>−${short(fit.alpha)}</sup>.${plan}`;
      show(true);
      draw(points, fit, target);
    } catch (error) {
      answer.textContent = error.message;
      show(false);
    }
  }

  for (const name of ["curve", "target"]) field(name).addEventListener("input", update);
  addEventListener("resize", update);
  root.querySelector("fieldset").hidden = false;
  update();
}
